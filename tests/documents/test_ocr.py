import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from documents.drawn_pages import draw, needs_tesseract, page_named
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.ocr import OcrError, OcrPage, Word, available, languages_for, orientation, read, read_pages

ARABIC = [
    "تقرير اللجنة المالية عن العام الماضي",
    "تم اعتماد الميزانية في الاجتماع الأخير",
    "وبلغت الإيرادات ثلاثة ملايين جنيه",
]
ENGLISH = ["The committee met on Monday morning", "and approved the budget of the year"]


def page_of(words, **fields):
    return OcrPage(
        **{"first": [], "asked": "auto", "languages": "ara", "engine": "tesseract 5.3.0", "words": words, **fields}
    )


@st.composite
def pages(pick):
    line = paragraph = 0
    words = []
    for text in pick(st.lists(st.text("ابجabc12", min_size=1, max_size=5), max_size=12)):
        step = pick(st.sampled_from(("word", "line", "paragraph")))
        line += step != "word"
        paragraph += step == "paragraph"
        words.append(Word(text, (0, 0, 1, 1), pick(st.floats(0, 100)), line, paragraph))
    return page_of(words)


@given(pages())
def test_spans_are_where_the_words_stand_in_the_text(page):
    assert [page.text[start:end] for start, end in page.spans()] == [word.text for word in page.words]
    assert page.text.split() == [word.text for word in page.words]
    lines = {word.line for word in page.words}
    assert len([line for line in page.text.splitlines() if line]) == len(lines)


@given(pages())
def test_a_page_is_the_same_after_it_was_kept(page):
    assert OcrPage.from_json(json.loads(json.dumps(page.to_json())), "here") == page


@pytest.mark.parametrize(
    ("sure", "unsure", "languages"),
    [
        ("تقرير اللجنة", "xyz", "ara"),  # Latin letters that it is not sure of are misread Arabic
        ("the committee", "لا", "eng"),
        ("تقرير اللجنة Budget", "", "ara+eng"),
        ("", "تقرير", "ara+eng"),
        ("2024 - 7", "", "ara+eng"),
    ],
)
def test_the_script_of_a_page_picks_its_languages(sure, unsure, languages):
    words = [Word(text, (0, 0, 1, 1), 90.0, 0, 0) for text in sure.split()]
    words += [Word(text, (0, 0, 1, 1), 30.0, 0, 0) for text in unsure.split()]
    assert languages_for(words) == languages


def test_without_tesseract_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sudo apt install tesseract-ocr tesseract-ocr-ara" in available()
    assert "brew install tesseract tesseract-lang" in available()
    draw(tmp_path / "page.png", ENGLISH)
    with pytest.raises(OcrError, match="tesseract is not installed"):
        read(tmp_path / "page.png")


@needs_tesseract
def test_a_missing_language_names_its_package():
    assert "sudo apt install tesseract-ocr-tlh" in available("ara+tlh")


@needs_tesseract
@pytest.mark.parametrize(("lines", "languages"), [(ARABIC, "ara"), (ENGLISH, "eng"), (ARABIC + ENGLISH, "ara+eng")])
def test_a_page_is_read_in_order_with_the_languages_on_it(tmp_path, lines, languages):
    boxes = draw(tmp_path / "page.png", lines)
    page = read(tmp_path / "page.png")
    assert (page.languages, page.asked) == (languages, "auto")
    assert [reading.languages for reading in page.readings] == list(dict.fromkeys([languages, "ara+eng"]))
    words = page.text.split()
    assert len(set(words) & {word for line in lines for word in line.split()}) >= 0.8 * len(words)
    assert [word.line for word in page.words] == sorted(word.line for word in page.words)
    first = [word for word in page.words if word.line == 0]
    assert all(word.box[1] >= boxes[0][1] - 9 and word.box[3] <= boxes[0][3] + 9 for word in first)
    assert page.confidence > 60


@needs_tesseract
def test_what_was_read_is_kept_and_a_damaged_file_is_read_again(tmp_path, monkeypatch):
    cache = tmp_path / "ocr"
    image = tmp_path / f"{'ab' * 32}.png"
    draw(image, ENGLISH)
    page = read(image, cache)
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        assert read(image, cache) == page
    kept = cache / "ab" / f"{image.stem}.json"
    kept.write_text(kept.read_text()[:99])
    assert read(image, cache) == page
    assert read(image, cache, "eng").asked == "eng"  # other languages are another reading


@needs_tesseract
def test_an_image_that_takes_too_long_or_is_none_is_one_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (2000, 2000), dtype=np.uint8) * 255
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(OcrError, match=r"noise\.png: tesseract takes longer than 0\.3 s"):
        read(tmp_path / "noise.png", seconds=0.3)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 99)
    with pytest.raises(OcrError, match=r"broken\.png: cannot be decoded"):
        read(tmp_path / "broken.png")


@needs_tesseract
def test_a_page_on_its_side_says_how_to_turn_it(tmp_path):
    draw(tmp_path / "page.png", (ARABIC * 4)[:10], size=(1400, 1000))
    for turned in (0, 90, 180, 270):
        with Image.open(tmp_path / "page.png") as page:
            page.rotate(turned, expand=True).save(tmp_path / "turned.png")  # counterclockwise
        assert orientation((tmp_path / "turned.png").read_bytes()) == turned
    Image.new("L", (800, 800), 255).save(tmp_path / "blank.png")
    assert orientation((tmp_path / "blank.png").read_bytes()) == 0


@needs_tesseract
def test_many_pages_are_read_at_once_and_a_broken_one_says_why(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = [page_named(f"images/{number:064x}.png") for number in range(3)]
    folder.images.mkdir()
    for page in pages[:2]:
        draw(tmp_path / page.image, ENGLISH)
    (tmp_path / pages[2].image).write_bytes(b"no image")
    ticks: list[tuple[str, int, int]] = []
    texts = read_pages(folder, [*pages, pages[0]], lambda *tick: ticks.append(tick), workers=2)
    assert [tick[1:] for tick in ticks] == [(1, 3), (2, 3), (3, 3)]
    assert "committee" in texts[pages[0].image].text
    assert isinstance(texts[pages[2].image], OcrError)
    assert len(list(folder.ocr.glob("*/*.json"))) == 2
