import numpy as np
import pytest
from PIL import Image

from gemtune.documents.ocr import OcrPage, Word
from gemtune.documents.redaction import boxes_over, places_of, redact


def read_as(*lines):
    """A page of words 40 pixels high and 100 wide, a line every 80 pixels."""
    words = [
        Word(word, (110 * place, 80 * line, 110 * place + 100, 80 * line + 40), 90.0, line, 0)
        for line, text in enumerate(lines)
        for place, word in enumerate(text.split())
    ]
    return OcrPage(asked="auto", languages="eng", engine="tesseract 5.3.0", words=words)


def test_boxes_are_wider_than_the_words_by_half_a_line():
    page = read_as("call 0122 876 now", "or 555")
    start = page.text.index("0122")
    assert boxes_over(page, start, start + len("0122 876")) == [(89, 0, 341, 61)]
    across = page.text.index("now")
    assert boxes_over(page, across, across + len("now\nor")) == [(309, 0, 451, 61), (0, 59, 121, 141)]
    assert boxes_over(page, start + 1, start + 2) == [(89, 0, 231, 61)]  # a word is covered whole


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("01228762033", "0122 8762033"),
        ("٠١٢٢٨٧٦٢٠٣٣", "0122 8762033"),
        ("EG38 0019 0005", "0005 0019 38EG"),  # tesseract and the layer need not agree on the order
        ("ALI HASSAN", "Ali Hassan"),
        ("ahmed@example.org", "ahmed@exarnple.org"),  # nearly
    ],
)
def test_a_value_of_the_layer_is_found_in_what_tesseract_read(value, place):
    page = read_as("on 0122 8762033 and", "0005 0019 38EG is", "of Ali Hassan", "ahmed@exarnple.org")
    assert [page.text[start:end] for start, end in places_of(value, page)] == [place]


def test_a_value_that_is_not_there_has_no_place():
    page = read_as("nothing of the kind", "is written here 123")
    assert places_of("01228762033", page) == places_of("Mohammed Hassan", page) == places_of("", page) == []


def test_a_value_is_found_as_often_as_it_stands_there_and_not_inside_words():
    page = read_as("Ali and Alice met", "signed Ali")
    assert [page.text[start:end] for start, end in places_of("Ali", page)] == ["Ali", "Ali"]


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA"])
def test_a_redacted_image_is_black_in_its_boxes_and_the_same_elsewhere(tmp_path, mode):
    page = Image.fromarray(np.random.default_rng(0).integers(1, 255, (60, 80, 3), dtype=np.uint8)).convert(mode)
    page.save(tmp_path / "page.png", dpi=(200, 200))
    path = redact(tmp_path / "page.png", [(10, 20, 30, 40), (70, 50, 99, 99)], tmp_path / "redacted")
    with Image.open(tmp_path / "page.png") as before, Image.open(path) as after:
        wanted, seen = np.array(before.convert("RGB")), np.array(after.convert("RGB"))
        assert after.info == {} and after.mode in ("L", "RGB")
    wanted[20:41, 10:31] = 0
    wanted[50:, 70:] = 0
    assert (seen == wanted).all()
    assert path.parent.parent == tmp_path / "redacted" and path.parent.name == path.stem[:2] and len(path.stem) == 64
    assert redact(tmp_path / "page.png", [(70, 50, 99, 99), (10, 20, 30, 40)], tmp_path / "redacted") == path
    assert redact(tmp_path / "page.png", [(70, 50, 99, 99)], tmp_path / "redacted") != path
