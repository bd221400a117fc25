"""Makes the pictures of examples/products/ and examples/multi_image/: `python examples/make_pictures.py`.

Products: what colour a product has and what is on it can only be seen in its picture; its name does not say.
Multi-image: three pictures a question, in a zip beside the rows, as the MMIU benchmark lays them out.
"""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
SIDE = 96
COLOURS = {
    "red": (204, 51, 51),
    "blue": (46, 92, 184),
    "green": (46, 139, 87),
    "yellow": (230, 184, 0),
    "black": (34, 34, 34),
}
PATTERNS = {"plain": "", "striped": " with white stripes", "dotted": " with white dots"}
BRANDS = ("Halden", "Norvik", "Tessel", "Marlow", "Quill", "Ostra", "Bramble", "Kestrel")

Draw = ImageDraw.ImageDraw
# Outline on a 96 x 96 canvas -> what it is drawn with.
SHAPES: dict[str, Callable[[Draw, int], None]] = {
    "mug": lambda d, c: (d.ellipse((60, 38, 84, 66), outline=c, width=6), d.rectangle((24, 30, 68, 76), fill=c)),
    "lamp": lambda d, c: (
        d.polygon([(32, 18), (64, 18), (80, 50), (16, 50)], fill=c),
        d.rectangle((44, 50, 52, 80), fill=c),
    ),
    "bag": lambda d, c: (d.arc((32, 12, 64, 48), 180, 360, fill=c, width=6), d.rectangle((20, 32, 76, 82), fill=c)),
    "bottle": lambda d, c: (d.rectangle((40, 10, 56, 34), fill=c), d.rounded_rectangle((30, 30, 66, 86), 8, fill=c)),
    "chair": lambda d, c: (
        d.rectangle((28, 12, 36, 84), fill=c),
        d.rectangle((28, 46, 68, 58), fill=c),
        d.rectangle((60, 46, 68, 84), fill=c),
    ),
    "book": lambda d, c: d.rectangle((22, 16, 74, 80), fill=c),
    "ball": lambda d, c: d.ellipse((18, 18, 78, 78), fill=c),
    "vase": lambda d, c: (d.ellipse((24, 34, 72, 86), fill=c), d.rectangle((38, 12, 58, 44), fill=c)),
}
CATEGORIES = {
    "mug": ("Kitchen", "A sturdy cup for coffee and tea at home."),
    "lamp": ("Lighting", "Warm light for desk and bedside."),
    "bag": ("Accessories", "Room for a day's things, easy to carry."),
    "bottle": ("Outdoor", "Keeps drinks cold on the way."),
    "chair": ("Furniture", "A light seat for kitchen and hall."),
    "book": ("Stationery", "Blank pages for notes and plans."),
    "ball": ("Toys", "Soft, bouncy fun for small hands."),
    "vase": ("Home", "A simple home for fresh flowers."),
}


def product(kind: str, colour: str, pattern: str) -> Image.Image:
    """A product on a white ground, its pattern on it in white."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    SHAPES[kind](ImageDraw.Draw(image), COLOURS[colour])  # type: ignore[arg-type]
    marks = ImageDraw.Draw(image)
    if pattern == "striped":
        for y in range(20, SIDE, 14):
            marks.rectangle((0, y, SIDE, y + 3), fill="white")
    if pattern == "dotted":
        for y in range(18, SIDE, 14):
            for x in range(18, SIDE, 14):
                marks.ellipse((x, y, x + 5, y + 5), fill="white")
    return image


def write_products(folder: Path) -> None:
    """Writes every product in every colour and pattern, and products.csv."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)  # noqa: S311 (pictures)
    rows = []
    for number, (kind, colour, pattern) in enumerate((k, c, p) for k in SHAPES for c in COLOURS for p in PATTERNS):
        name, (category, use) = f"{draw.choice(BRANDS)} {kind}", CATEGORIES[kind]
        file = f"{kind}-{number:03}.png"
        product(kind, colour, pattern).quantize(8).save(folder / file, optimize=True)
        attributes = {"plain": colour, "striped": f"{colour}; stripes", "dotted": f"{colour}; dots"}[pattern]
        text = f"{name} in {colour}{PATTERNS[pattern]}. {use}"
        rows.append({"name": name, "category": category, "image": file, "description": text, "attributes": attributes})
    with (folder / "products.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def scene(shape: str, colour: str, count: int) -> Image.Image:
    """So many circles or squares of one colour."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    marks = ImageDraw.Draw(image)
    for number in range(count):
        x, y = 8 + 44 * (number % 2), 8 + 44 * (number // 2)
        box = (x, y, x + 34, y + 34)
        (marks.ellipse if shape == "circle" else marks.rectangle)(box, fill=COLOURS[colour])
    return image


def write_multi_image(folder: Path, questions: int = 150) -> None:
    """Writes rows.json in MMIU's layout and pictures.zip, whose pictures the rows name."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(1)  # noqa: S311 (pictures)
    every = [(shape, colour, count) for shape in ("circle", "square") for colour in COLOURS for count in (1, 2, 3, 4)]
    rows = []
    with zipfile.ZipFile(folder / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for shape, colour, count in every:
            out = io.BytesIO()
            scene(shape, colour, count).quantize(8).save(out, "PNG", optimize=True)
            member = zipfile.ZipInfo(f"pictures/{shape}-{colour}-{count}.png", (2026, 1, 1, 0, 0, 0))
            archive.writestr(member, out.getvalue())
        for number in range(questions):
            shown = draw.sample(every, 3)
            wanted = draw.randrange(3)
            shape, colour, count = shown[wanted]
            options = "A: the first picture\nB: the second picture\nC: the third picture"
            rows.append(
                {
                    "task": "picture_choice",
                    "source": f"made-{number}",
                    "options": options,
                    "question": f"Which picture shows {count} {colour} {shape}{'s' if count > 1 else ''}?",
                    "context": f"Look at the pictures and select one of the following choices.\n{options}",
                    "input_image_path": [f"./pictures/{s}-{c}-{n}.png" for s, c, n in shown],
                    "output": "ABC"[wanted],
                }
            )
    (folder / "rows.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_products(HERE / "products")
    write_multi_image(HERE / "multi_image")
