"""The steps of a page: each does what it says, records it, and leaves alone what needs nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gemtune.documents.steps import STEPS, each, is_blank, prepared, skew
from gemtune.recipe import document_sections
from made_pdfs import written_page


def shaded(page: Image.Image, darkest: float = 0.35, noise: float = 0.0) -> Image.Image:
    """The page under a lamp at its upper left corner."""
    height, width = page.height, page.width
    far = np.hypot(*np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))) / np.sqrt(2)
    light = 1 - (1 - darkest) * far
    grain = np.random.default_rng(3).normal(0, noise, (height, width)) if noise else 0
    return Image.fromarray((np.asarray(page) * light * 0.9 + grain).clip(0, 255).astype(np.uint8))


def turned(page: Image.Image, degrees: float) -> Image.Image:
    return page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255)


def paper(image: Image.Image, page: Image.Image) -> NDArray[np.uint8]:
    """The pixels that are white on the page as it was written."""
    return np.asarray(image.convert("L"))[np.asarray(page) == 255]


def test_the_recipe_and_the_table_name_the_same_steps() -> None:
    assert list(STEPS) == list(document_sections.STEPS)


def test_uneven_light_is_flattened_and_the_ink_stays() -> None:
    page = written_page()
    dark = shaded(page)
    image, done = prepared(dark, [("flatten", None)])
    assert np.percentile(paper(dark, page), 5) < 150
    assert np.percentile(paper(image, page), 5) > 240
    assert np.asarray(image)[np.asarray(page) == 0].max() < 60
    assert done[0]["light"] == "uneven"
    assert done[0]["paper"][0] < 100 < done[0]["paper"][1]


def test_a_page_that_was_drawn_is_not_flattened() -> None:
    """A dark banner with white letters, and a photo, stay as they are."""
    page = written_page().convert("RGB")
    page.paste((10, 40, 120), (0, 0, 1000, 90))
    image, done = prepared(page, [("flatten", None)])
    assert image is page
    assert done == [{"step": "flatten", "setting": None, "light": "even"}]


def test_a_dark_slide_is_not_flattened() -> None:
    """White letters on a blue that grows lighter: divided by its background, it would be white on white."""
    letters = np.asarray(written_page(), np.float32)[:, :, None] / 255
    blue = np.linspace(0.5, 1.2, 1400)[:, None, None] * np.array([20, 50, 110])
    slide = Image.fromarray((255 - letters * (255 - blue)).clip(0, 255).astype(np.uint8))
    image, done = prepared(slide, [("flatten", None)])
    assert image is slide
    assert done[0]["light"] == "dark page"


def test_coloured_paper_becomes_white_and_a_stamp_keeps_its_colour() -> None:
    page = written_page().convert("RGB")
    pixels = np.asarray(page).copy()
    pixels[1000:1010, 300:600] = (30, 30, 200)
    yellow = Image.fromarray(
        (pixels * [0.95, 0.85, 0.6] - np.arange(1000)[None, :, None] / 40).clip(0, 255).astype("u1")
    )
    image, _ = prepared(yellow, [("flatten", None)])
    assert image.getpixel((50, 700)) == pytest.approx((255, 255, 255), abs=6)
    red, _, blue = image.getpixel((450, 1005))
    assert blue > red + 100


@pytest.mark.parametrize("degrees", [-8.0, -1.3, 0.7, 2.0, 5.0])
def test_a_turned_page_is_levelled(degrees: float) -> None:
    page = shaded(turned(written_page(), degrees), noise=5)
    assert skew(page) == pytest.approx(-degrees, abs=0.11)
    image, done = prepared(page, [("deskew", 0.5)])
    assert done[0]["turned"]
    assert abs(skew(image)) < 0.15
    assert image.width >= page.width, "nothing is cut off"


def test_a_page_that_lies_almost_level_is_not_resampled() -> None:
    page = turned(written_page(), 0.7)
    image, done = prepared(page, [("deskew", 1.0)])
    assert image is page
    assert done == [{"step": "deskew", "setting": 1.0, "degrees": pytest.approx(-0.7, abs=0.1), "turned": False}]


def test_a_page_without_lines_is_not_turned() -> None:
    grain = np.random.default_rng(0).normal(128, 40, (1400, 1000)).clip(0, 255).astype(np.uint8)
    ring = np.hypot(*np.meshgrid(np.arange(1000) - 500, np.arange(1400) - 700))
    for image in (Image.fromarray(grain), Image.fromarray(np.where(abs(ring - 300) < 9, 0, 255).astype(np.uint8))):
        assert skew(image) == 0.0


def test_margins_are_cropped_and_specks_are_none() -> None:
    page = written_page()
    page.putpixel((5, 5), 0)
    image, done = prepared(page, [("crop", 40)])
    left, top, right, bottom = done[0]["box"]
    assert image.size == (right - left, bottom - top)
    assert 50 <= left <= 64 and 50 <= top <= 72
    assert prepared(Image.new("L", (300, 400), 255), [("crop", 40)])[0].size == (300, 400)


def test_resize_never_enlarges() -> None:
    page = written_page()
    assert prepared(page, [("resize", 700)])[0].size == (500, 700)
    assert prepared(page, [("resize", 1600)])[0] is page


def test_autocontrast_reaches_black_and_white() -> None:
    grey = Image.fromarray((np.asarray(written_page()) * 0.4 + 70).astype(np.uint8))
    image, done = prepared(grey, [("autocontrast", 0.5)])
    assert image.getextrema() == (0, 255)
    assert done[0] == {"step": "autocontrast", "setting": 0.5, "black": 70, "white": 172}


def test_clahe_evens_out_contrast_and_without_a_limit_it_equalises() -> None:
    faint = Image.fromarray((np.asarray(shaded(written_page())) * 0.3 + 90).astype(np.uint8))
    image, _ = prepared(faint, [("clahe", 4)])
    assert np.asarray(image).std() > 1.3 * np.asarray(faint).std()
    ramp = Image.fromarray(np.tile(np.linspace(100, 140, 256).astype(np.uint8), (256, 1)).T.copy())
    spread = np.asarray(prepared(ramp, [("clahe", 100)])[0])
    assert spread.max() - spread.min() > 150
    colour = prepared(faint.convert("RGB"), [("clahe", 4)])[0]
    assert colour.mode == "RGB"
    assert np.abs(np.asarray(colour.convert("L"), int) - np.asarray(image)).mean() < 3


def test_steps_come_in_their_order_and_each_is_recorded() -> None:
    page = shaded(turned(written_page(), 2), noise=5).convert("RGB")
    steps = [("flatten", None), ("deskew", 0.5), ("crop", 40), ("resize", 800), ("gray", None)]
    stages = list(each(page, steps))
    assert [result["step"] for _, result in stages] == [name for name, _ in steps]
    assert [image.mode for image, _ in stages] == ["RGB"] * 4 + ["L"]
    assert max(stages[-1][0].size) == 800
    assert prepared(page, steps)[1] == [result for _, result in stages]


@pytest.mark.parametrize("size", [(8, 8), (9, 200), (8, 1600), (31, 17)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_no_step_stumbles_over_a_small_page(size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    for image in (Image.fromarray(noise).convert(mode), Image.new(mode, size, "white"), Image.new(mode, size)):
        for name in STEPS.keys() - {"orient"}:
            prepared(
                image, [(name, {"resize": 100, "deskew": 0.5, "crop": 40, "clahe": 2, "autocontrast": 1}.get(name))]
            )


def test_blank_is_a_page_with_nothing_on_it_but_specks() -> None:
    page = Image.new("L", (1000, 1400), 250)
    for x in range(50, 1000, 190):
        page.putpixel((x, x), 20)
    assert is_blank(shaded(page, noise=4))
    assert is_blank(shaded(page, noise=14))
    digit = written_page(["3"])
    assert not is_blank(digit), "a page with its number is not blank"
    assert not is_blank(shaded(digit, noise=5))
    assert not is_blank(written_page(["light grey"]).point(lambda grey: 205 + grey // 6)), "nor one in light grey"
