import json
from pathlib import Path

import pytest
from PIL import Image

from documents.drawn_pages import draw, needs_tesseract, page_named
from documents.layered_pdf import write_pdf
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.ocr import read
from gemtune.documents.pages import draw_pages
from gemtune.documents.privacy import Finding, PrivacyError, gate, masked
from gemtune.errors import RecipeError
from gemtune.recipe.loader import parse_recipe

CLEAN = ["The committee met on Monday morning", "and approved the budget of the year"]
PHONE = "please call 01228762033 before noon"
SECRETS = ("01228762033", "01061319140", "ahmed@example.org", "29801010112345")


def recipe_with(privacy="{}", teacher="{url: http://127.0.0.1:9/v1, model: large}"):
    text = f"name: letters\ntask: documents\npages: {{source: pdfs}}\nteacher: {teacher}\nprivacy: {privacy}\n"
    return parse_recipe(text, Path("r.yaml"))


def pages_in(folder, *texts, trusted=True, **fields):
    """Pages with a text layer, whose images are white."""
    pages = []
    for number, text in enumerate(texts, 1):
        name = f"{number:064x}.png"
        folder.images.mkdir(parents=True, exist_ok=True)
        Image.new("L", (200, 300), 255).save(folder.images / name)
        pages.append(page_named(f"images/{name}", number=number, text=text, trusted=trusted, **fields))
    return pages


def passed(recipe, folder, pages):
    return gate(recipe, folder, pages, lambda what, done, total: None)


def findings_in(folder):
    lines = folder.findings_file.read_text(encoding="utf-8")
    assert not any(secret in lines for secret in SECRETS)
    return [Finding.from_json(json.loads(line), "here") for line in lines.splitlines()]


def test_personal_data_stops_a_teacher_elsewhere_with_a_list(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "clean", "هاتف 01228762033 / 01061319140", "ahmed@example.org")
    with pytest.raises(PrivacyError) as stop:
        passed(recipe_with("{ocr: false}"), folder, pages)
    line = str(stop.value)
    assert line.startswith("nothing was sent to the teacher: personal data in letter.pdf page 2, 3 (phone, email); ")
    assert str(folder.findings_file) in line and "privacy.findings: redact, skip or allow" in line
    assert "unscanned" not in line and "\n" not in line and not any(secret in line for secret in SECRETS)
    found = findings_in(folder)
    assert [(finding.number, finding.kind, finding.where) for finding in found] == [
        (2, "phone", "layer"),
        (2, "phone", "layer"),
        (3, "email", "layer"),
    ]
    assert {finding.decision for finding in found} == {"stop"}


@pytest.mark.parametrize("teacher", ["{provider: local, model: some/model}", "{provider: files, replies: r.jsonl}"])
def test_a_teacher_on_this_machine_needs_no_gate(tmp_path, teacher):
    folder = DistilledFolder(tmp_path)
    pages = [*pages_in(folder, "هاتف 01228762033"), page_named("images/blank.png", blank=True)]
    assert [sendable.page for sendable in passed(recipe_with(teacher=teacher), folder, pages)] == pages[:1]


def test_one_teacher_elsewhere_is_enough_to_ask(tmp_path):
    folder = DistilledFolder(tmp_path)
    teachers = "[{provider: local, model: m}, {provider: gemini, model: g}]"
    with pytest.raises(PrivacyError):
        passed(recipe_with("{ocr: false}", teachers), folder, pages_in(folder, "هاتف 01228762033"))


def test_pages_are_sent_or_skipped_as_the_recipe_says(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "clean", "هاتف 01228762033")
    allowed = passed(recipe_with("{ocr: false, findings: allow}"), folder, pages)
    assert [sendable.page for sendable in allowed] == pages
    assert allowed[1].image == folder.root / pages[1].image and not allowed[1].redactions
    assert [finding.decision for finding in findings_in(folder)] == ["allow"]
    skipped = passed(recipe_with("{ocr: false, findings: skip}"), folder, pages)
    assert [sendable.page for sendable in skipped] == pages[:1]
    assert [finding.decision for finding in findings_in(folder)] == ["skip"]


def test_a_page_without_text_is_unscanned_and_never_clean(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "", "", trusted=False, why="no text")
    pages += pages_in(folder, "gl#rb&ge", document="other.pdf", trusted=False, why="no word of it is known")
    with pytest.raises(PrivacyError) as stop:
        passed(recipe_with("{ocr: false}"), folder, pages)
    places = "letter.pdf page 1, 2, other.pdf page 1"
    assert f"no text to scan in {places}: it has no text layer, and privacy.ocr is off;" in str(stop.value)
    assert "privacy.unscanned: skip or allow" in str(stop.value) and "privacy.findings" not in str(stop.value)
    notes = [finding.note for finding in findings_in(folder)]
    assert notes[1:] == [
        "it has no text layer, and privacy.ocr is off",
        "no word of it is known, and privacy.ocr is off",
    ]
    assert passed(recipe_with("{ocr: false, unscanned: skip}"), folder, pages) == []
    assert passed(recipe_with("{ocr: false, unscanned: allow}"), folder, pages) != []


def test_without_tesseract_the_list_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = DistilledFolder(tmp_path)
    with pytest.raises(PrivacyError, match="sudo apt install tesseract-ocr tesseract-ocr-ara"):
        passed(recipe_with(), folder, pages_in(folder, "", trusted=False))


def test_a_layer_that_cannot_be_trusted_is_searched_all_the_same(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "x#& 01228762033", trusted=False, why="no word of it is known")
    with pytest.raises(PrivacyError):
        passed(recipe_with("{ocr: false, unscanned: allow}"), folder, pages)
    assert [finding.kind for finding in findings_in(folder)] == ["phone", "unscanned"]
    assert passed(recipe_with("{ocr: false, unscanned: allow, findings: skip}"), folder, pages) == []


def test_what_a_document_says_of_itself_stops_and_is_never_sent(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "clean", metadata={"Author": "Ahmed Hassan", "Title": "for ahmed@example.org"})
    pages += pages_in(folder, "clean", document="other.pdf", metadata={"Author": "Administrator", "Title": "Budget"})
    with pytest.raises(PrivacyError, match=r"letter\.pdf, its metadata \(name, email\)"):
        passed(recipe_with("{ocr: false}"), folder, pages)
    assert [(finding.document, finding.number, finding.where) for finding in findings_in(folder)] == [
        ("letter.pdf", None, "metadata")
    ] * 2
    assert len(passed(recipe_with("{ocr: false, findings: skip}"), folder, pages)) == 2


def test_patterns_of_the_recipe_are_looked_for(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "ملف رقم ٢٠٤-ق")
    with pytest.raises(PrivacyError, match=r"page 1 \(case\)"):
        passed(recipe_with(r"{ocr: false, patterns: {case: '\d{3}-ق'}}"), folder, pages)
    with pytest.raises(RecipeError, match=r"privacy\.patterns.*'case' is no regular expression \(missing \)"):
        recipe_with("{patterns: {case: '(a'}}")


def test_a_region_that_is_none_stops(tmp_path):
    with pytest.raises(RecipeError, match=r"privacy\.regions: .*by two capital letters, such as EG; found 'Egypt'"):
        recipe_with("{regions: [Egypt]}")
    with pytest.raises(RecipeError, match=r"privacy\.regions: XX is no country that phonenumbers knows"):
        passed(recipe_with("{ocr: false, regions: [EG, XX]}"), DistilledFolder(tmp_path), [])


@pytest.mark.parametrize("groups_turned", [False, True])
def test_numbers_on_right_to_left_lines_are_found_through_pdfiums_layer(tmp_path, groups_turned):
    lines = {
        "iban": "الحساب EG38 0019 0005 0000 0000 2631 8000 2",
        "phone": "للاتصال +20 10 1234 5678 يوميا",
        "card": "الدفع 4111 1111 1111 1111 فقط",
        "national id": "المواطن ٢٩٨٠١٠١٠١١٢٣٤٥",
        "email": "راسلنا ahmed@example.org",
        "name": "الاسم: محمد أحمد",
    }
    source = tmp_path / "in"
    source.mkdir()
    write_pdf(source / "made.pdf", list(lines.values()), groups_turned=groups_turned, Author="Ahmed Hassan")
    text = f"name: letters\ntask: documents\npages: {{source: {source}, folder: {tmp_path}, dpi: 50, least_side: 0}}\n"
    recipe = parse_recipe(text + "teacher: {model: large}\nprivacy: {ocr: false, unscanned: allow}\n", Path("r.yaml"))
    folder = DistilledFolder.of(recipe)
    pages = draw_pages(recipe, folder, print, lambda what, done, total: None)
    layer = pages[0].text
    assert (
        "EG38 0019 0005 0000 0000 2631 8000 2" not in layer or "+20 10 1234 5678" not in layer
    )  # one is turned around
    with pytest.raises(PrivacyError):
        passed(recipe, folder, pages)
    found = findings_in(folder)
    assert {finding.kind for finding in found if finding.where == "layer"} == set(lines)
    assert [finding.kind for finding in found if finding.where == "metadata"] == ["name"]


@needs_tesseract
def test_a_scan_is_read_and_redacted_where_the_number_stands(tmp_path):
    folder = DistilledFolder(tmp_path)
    page, clean = pages_in(folder, "", "", trusted=False)
    boxes = draw(folder.root / page.image, [CLEAN[0], PHONE, CLEAN[1]])
    draw(folder.root / clean.image, CLEAN)
    first, second = passed(recipe_with("{findings: redact}"), folder, [page, clean])
    assert second.image == folder.root / clean.image and not second.redactions
    (redaction,) = first.redactions
    assert (redaction.kind, redaction.value) == ("phone", "01228762033")
    assert first.image.parent.parent == folder.redacted and first.image.stem != Path(page.image).stem
    left, top, right, bottom = redaction.boxes[0]
    assert top < boxes[1][1] + 10 and bottom > boxes[1][3] - 10 and left > boxes[1][0] + 50 and right < boxes[1][2]
    text = read(first.image).text
    assert "please call" in text and "committee" in text and "0122" not in text
    assert [finding.decision for finding in findings_in(folder)] == ["redact"]
    kept = {path: path.read_bytes() for path in folder.redacted.glob("*/*.png")}
    assert passed(recipe_with("{findings: redact}"), folder, [page, clean]) == [first, second]
    assert {path: path.read_bytes() for path in folder.redacted.glob("*/*.png")} == kept


@needs_tesseract
def test_one_latin_address_on_an_arabic_page_is_found_and_covered(tmp_path):
    folder = DistilledFolder(tmp_path)
    (page,) = pages_in(folder, "", trusted=False)
    arabic = "بدأ الاجتماع في الساعة العاشرة صباح يوم الاثنين وناقش التقرير السنوي"
    draw(folder.root / page.image, [*[arabic] * 18, "ahmed@example.org"], size=(1700, 1800))
    kept = read(folder.root / page.image)
    assert kept.languages == "ara" and "@example" not in kept.text  # one language alone would have missed it
    (sendable,) = passed(recipe_with("{findings: redact}"), folder, [page])
    assert [redaction.kind for redaction in sendable.redactions] == ["email"]
    assert all("example" not in reading.text for reading in read(sendable.image).readings)


@needs_tesseract
def test_a_finding_that_is_nowhere_on_the_image_keeps_its_page_here(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "الهاتف ٠١٠٦١٣١٩١٤٠")
    draw(folder.root / pages[0].image, CLEAN)
    assert passed(recipe_with("{findings: redact}"), folder, pages) == []
    (finding,) = findings_in(folder)
    assert finding.decision == "skip" and "tesseract does not read the phone" in finding.note


@needs_tesseract
def test_a_picture_that_tesseract_cannot_read_is_unscanned(tmp_path):
    folder = DistilledFolder(tmp_path)
    pages = pages_in(folder, "", trusted=False)
    Image.effect_noise((600, 600), 90).save(folder.root / pages[0].image)
    with pytest.raises(PrivacyError, match=r"no text to scan in letter\.pdf page 1: it has no text layer, and tess"):
        passed(recipe_with(), folder, pages)


@pytest.mark.parametrize(
    "value", ["01228762033", "ahmed@example.org", "EG38 0019 0005 0000 0000 2631 8000 2", "علي", "ab"]
)
def test_at_most_a_third_of_a_value_is_shown(value):
    assert len(masked(value)) == len(value)
    assert 3 * sum(character != "•" for character in masked(value)) <= len(value)
