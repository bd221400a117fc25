"""Does a vision-language model learn to see? A small Gemma 3, trained from scratch by gemtune on rendered pictures.

They show one to three circles, squares or triangles in one of four colours, at random places and sizes. The control
asks the same questions with every picture swapped for that of another row: what is left then is guessing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.compare.results import table
from benchmarks.machine import write_page
from gemtune.files import read_jsonl, write_jsonl, write_text
from gemtune.models.families.gemma3 import write_tiny_vision
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job

SIDE = 64
COUNTS = ("one", "two", "three")
COLOURS = {"red": (210, 40, 40), "green": (30, 150, 60), "blue": (40, 70, 200), "yellow": (225, 190, 20)}
SHAPES = ("circle", "square", "triangle")
QUESTION = "<image>What is in the picture?"
TRAINED, TESTED = 2000, 200
STEPS = 200
# Line of the table -> the weights and the rows that are evaluated.
EVALUATIONS = {
    "trained": ("tuned", "test"),
    "trained, pictures swapped": ("tuned", "swapped"),
    "before training": ("base", "test"),
}
BODY = """\
A Gemma 3 vision-language model of {parameters:.1f} million weights (SigLIP, projector and text part of the real
architecture), all of them random at first, trained by gemtune on {trained} rendered pictures in {minutes:.1f} minutes,
{steps} steps of 32. Asked what is in {tested} pictures that it never saw:

{table}

Swapped: the same questions and answers, every picture replaced by the one of another row. Guessing is right in one of
36, 3, 4 and 3 cases.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_page(__file__, "It learns to see", _body(Path(folder)))


def _body(folder: Path) -> str:
    began = time.perf_counter()
    model = write_tiny_vision(
        folder / "model",
        side=SIDE,
        patch=8,
        tokens=16,
        vision_sizes={"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4},
        text_sizes={"hidden_size": 128, "intermediate_size": 256, "query_pre_attn_scalar": 32, "head_dim": 32},
    )
    write_data(folder)
    job = Job(recipe(folder, model))
    stages.train(job, lambda line: print(json.dumps(line), file=sys.stderr))
    minutes = (time.perf_counter() - began) / 60
    return BODY.format(
        parameters=sum(p.numel() for p in job.base_model().parameters()) / 1e6,
        trained=f"{TRAINED:,}",
        minutes=minutes,
        steps=STEPS,
        tested=TESTED,
        table=table("| all right | count | colour | shape", [evaluated(job, folder, name) for name in EVALUATIONS]),
    )


def evaluated(job: Job, folder: Path, name: str) -> list[str]:
    """A line of the table."""
    weights, data = EVALUATIONS[name]
    stages.evaluate(job, [weights], str(folder / f"{data}.jsonl"))
    replies = list(read_jsonl(job.run.eval / data / f"{weights}.jsonl"))
    return [name, *(f"{share:.0%}" for share in right(replies))]


def write_data(folder: Path) -> None:
    draw = random.Random(0)  # noqa: S311 (pictures)
    write_jsonl(folder / "train.jsonl", rows(folder, "train", TRAINED, draw))
    write_jsonl(folder / "test.jsonl", rows(folder, "test", TESTED, draw))
    test = list(read_jsonl(folder / "test.jsonl"))
    images = [row["images"] for row in test]
    write_jsonl(folder / "swapped.jsonl", (row | {"images": images[i - 1]} for i, row in enumerate(test)))


def recipe(folder: Path, model: Path) -> Path:
    path = folder / "sees.yaml"
    settings = {
        "name": "sees",
        "task": "messages",
        "model": str(model),
        "runs_dir": str(folder / "runs"),
        "data": [{"source": "train.jsonl"}],
        "split": {"val": 60, "test": 10},
        "prepare": {"dedupe": "none"},
        "lora": "none",
        "vision": {"trains": "tower", "learning_rate": 1e-3},
        "train": {
            "max_steps": STEPS,
            "epochs": 20,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "eval_steps": 100,
            "early_stopping": None,
        },
        "evaluate": {"max_new_tokens": 32, "limit": None, "batch_size": 50},
    }
    write_text(path, json.dumps(settings))  # JSON is YAML
    return path


def rows(folder: Path, part: str, count: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    (folder / part).mkdir()
    for number in range(count):
        amount, colour, shape = draw.randrange(3), draw.choice(list(COLOURS)), draw.choice(SHAPES)
        file = f"{part}/{number}.png"
        picture(amount + 1, colour, shape, draw).save(folder / file)
        answer = f"{COUNTS[amount]} {colour} {shape}{'s' if amount else ''}"
        turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]
        yield {"messages": turns, "images": [file]}


def picture(amount: int, colour: str, shape: str, draw: random.Random) -> Image.Image:
    """`amount` shapes that do not touch each other, of random sizes and places, on a light ground."""
    ground = tuple(draw.randrange(225, 256) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), ground)
    marks = ImageDraw.Draw(image)
    for x, y in draw.sample([(x, y) for x in (0, 32) for y in (0, 32)], amount):
        size = draw.randrange(16, 27)
        x, y = x + draw.randrange(30 - size), y + draw.randrange(30 - size)
        if shape == "triangle":
            marks.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=COLOURS[colour])
        else:
            (marks.ellipse if shape == "circle" else marks.rectangle)((x, y, x + size, y + size), fill=COLOURS[colour])
    return image


def right(replies: list[dict[str, Any]]) -> list[float]:
    """The shares of replies that are right as a whole, in count, in colour and in shape."""
    pairs = [(line["reply"].split(), line["gold"].split()) for line in replies]
    whole = sum(reply == gold for reply, gold in pairs) / len(pairs)
    parts = [sum(reply[i : i + 1] == gold[i : i + 1] for reply, gold in pairs) / len(pairs) for i in (0, 1)]
    shapes = sum(len(reply) > 2 and reply[2].rstrip("s") == gold[2].rstrip("s") for reply, gold in pairs) / len(pairs)
    return [whole, *parts, shapes]


if __name__ == "__main__":
    main()
