"""Pages that two documents share are found, whatever scanned them; pages that only look alike are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gemtune.documents.fingerprints import NEAR, distance, fingerprint, shared_pages
from gemtune.documents.folder import Page
from made_pdfs import LINES, written_page


def page(document: str, number: int, image: Image.Image, blank: bool = False) -> Page:
    return Page(
        document=document,
        number=number,
        image="",
        drawn="",
        size=image.size,
        dpi=200.0,
        source=document,
        steps=[],
        fingerprint=fingerprint(image),
        blank=blank,
    )


def other_page(seed: int) -> Image.Image:
    order = np.random.default_rng(seed)
    return written_page([line[: order.integers(5, 40)] * order.integers(1, 3) for line in order.permutation(LINES)])


def test_a_page_that_two_documents_share_is_found_at_another_size_and_with_noise() -> None:
    letter = written_page()
    noise = np.random.default_rng(0).normal(0, 8, (1400, 1000))
    scan = Image.fromarray((np.asarray(letter) + noise).clip(0, 255).astype(np.uint8)).resize((800, 1120))
    pages = [
        *(page("a.pdf", number, other_page(number)) for number in range(1, 6)),
        page("a.pdf", 6, letter),
        page("b.pdf", 1, scan),
        *(page("b.pdf", number, other_page(number + 10)) for number in range(2, 6)),
    ]
    pairs = shared_pages(pages)
    assert [(one.document, one.number, other.document, other.number) for one, other, _ in pairs] == [
        ("a.pdf", 6, "b.pdf", 1)
    ]
    assert pairs[0][2] == distance(pages[5].fingerprint, pages[6].fingerprint) <= NEAR


def test_pages_of_one_document_and_blank_pages_are_no_pair() -> None:
    white = Image.new("L", (100, 140), 255)
    pages = [page("a.pdf", number, written_page()) for number in (1, 2)]
    assert shared_pages([*pages, page("a.pdf", 3, white, blank=True), page("b.pdf", 1, white, blank=True)]) == []
    assert shared_pages([]) == []


def test_pages_with_little_on_them_are_no_pair() -> None:
    """A letterhead, a rule and a page number look alike in any document; forms are filled in differently."""
    almost_empty = [page(f"{name}.pdf", 2, written_page([f"{name}, page 2"])) for name in "abc"]
    assert shared_pages(almost_empty) == []
    form = [f"{label}: ____________________" for label in LINES[:12]]
    filled = [
        page(f"{name}.pdf", 1, written_page([line for label in form for line in (label, answer * 3)]))
        for name, answer in (("a", "on the left"), ("b", "          and to the right"))
    ]
    assert shared_pages(filled) == []


@pytest.mark.parametrize("count", [3, 1_500])  # more than are compared at a time
def test_every_pair_is_compared(count: int) -> None:
    bits = np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8)
    bits[-1] = bits[0]
    bits[-1, 0] ^= 0b101
    blank = page("", 1, Image.new("L", (100, 140), 255))
    pages = [
        Page(**{**vars(blank), "document": f"{row}.pdf", "fingerprint": line.tobytes().hex()})
        for row, line in enumerate(bits)
    ]
    assert [(one.document, other.document, bits) for one, other, bits in shared_pages(pages)] == [
        ("0.pdf", f"{count - 1}.pdf", 2)
    ]
