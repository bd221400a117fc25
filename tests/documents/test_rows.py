"""Which documents stay together, and when replies agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemtune.documents.folder import Page
from gemtune.documents.redaction import Redaction, Sendable
from gemtune.documents.rows import LeftOut, Vote, agreed, groups_of, similarity, without_covered
from gemtune.documents.teacher import Reply, Request, Usage
from gemtune.errors import RecipeError


def page(document: str, number: int, look: int) -> Page:
    """A page whose picture is `look`: those of two looks differ in half of their bits."""
    return Page(
        document=document,
        number=number,
        image=f"images/{look}.png",
        drawn=f"images/{look}.png",
        size=(10, 10),
        dpi=72.0,
        source=document,
        steps=[],
        fingerprint=f"{0x9E3779B97F4A7C15F39CC0605CEDC835 * (look + 1) % 2**256:064x}",
        blank=False,
    )


PAGES = [
    page("a.pdf", 1, 1),
    page("a.pdf", 2, 20),
    page("b.pdf", 1, 300),
    page("c/d.pdf", 1, 20),
    page("e.pdf", 1, 5000),
]


def test_documents_that_share_a_page_are_one_group_and_it_says_which_page() -> None:
    [group] = groups_of(PAGES)
    assert (group.group, group.documents) == ("a.pdf + c/d.pdf", ["a.pdf", "c/d.pdf"])
    [pair] = group.shared
    assert (pair.document, pair.number, pair.other, pair.other_number, pair.distance) == ("a.pdf", 2, "c/d.pdf", 1, 0)


def test_declared_groups_join_those_that_share_a_page() -> None:
    groups = groups_of(PAGES, [["c/d.pdf", "e.pdf"], ["b.pdf", "undrawn.pdf"]], ["undrawn.pdf"])
    assert [group.documents for group in groups] == [["a.pdf", "c/d.pdf", "e.pdf"]]


def test_a_declared_name_that_is_no_document_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"pages.groups: no document is called 'd.pdf'; did you mean"):
        groups_of(PAGES, [["a.pdf", "d.pdf"]])


@dataclass(frozen=True)
class Said:
    """What a model said to a page, or why it did not."""

    model: str
    text: str = ""
    problem: str | None = None

    def vote(self, agreement: float = 0.9) -> Vote:
        request = Request("a.pdf", 1, "content", 0, Path("x.png"), "Read it.", {})
        value = None if self.problem else {"elements": [{"type": "paragraph", "markdown": self.text}], "n": 7}
        text = json.dumps(value, ensure_ascii=False)
        return Vote(self.model, agreement, Reply(request, value, text, self.problem, Usage()))


TEXT = "قررت الوزارة ما يلي: يعمل بهذا القرار من تاريخ نشره"


def chosen(*said: Said, agreement: float = 0.9) -> tuple[str | None, str]:
    reply, why = agreed([one.vote(agreement) for one in said])
    return (str(reply.value["elements"][0]["markdown"]) if reply and reply.value else None), why


def test_a_single_reply_needs_no_other() -> None:
    assert chosen(Said("m", TEXT)) == (TEXT, "")
    assert chosen(Said("m", problem="it was cut")) == (None, "m: it was cut")


def test_of_three_that_agree_the_one_most_like_the_others_is_taken() -> None:
    texts = [TEXT[:-1], TEXT + ".", TEXT]
    assert chosen(*(Said("m", text) for text in texts)) == (TEXT, "")


def test_replies_that_differ_leave_the_page_out() -> None:
    text, why = chosen(Said("m", TEXT), Said("n", "something else altogether"))
    assert text is None and why.startswith("two replies of m and n are 0.")
    assert why.endswith("alike; teacher.agreement wants 0.9")
    assert chosen(Said("m", TEXT), Said("n", "something else altogether"), agreement=0.1)[0] == TEXT


def test_of_several_that_were_asked_one_reply_is_not_enough() -> None:
    text, why = chosen(Said("m", TEXT), Said("n", problem="it was refused"))
    assert (text, why) == (None, "only m has answered; n: it was refused")


def test_keys_and_white_space_are_no_likeness() -> None:
    one, other = Said("m", "abc").vote().reply, Said("m", "xyz").vote().reply
    assert similarity(one, other) < 0.85
    assert similarity(Said("m", "a  b\nc").vote().reply, Said("m", "a b c").vote().reply) == 1


def test_what_is_left_out_reads_as_a_line() -> None:
    assert str(LeftOut(document="a.pdf", number=None, task=None, why="it needs a password")) == (
        "a.pdf: it needs a password"
    )
    assert str(LeftOut(document="a.pdf", number=3, task="content", why="cut")) == "a.pdf page 3, content: cut"


def covered(schema: dict[str, object], value: dict[str, object]) -> tuple[Reply | None, str]:
    """What is left of a reply to a page on which a phone number is covered."""
    request = Request("a.pdf", 1, "fields", 0, Path("a.png"), "Read.", schema)
    reply = Reply(request, value, json.dumps(value), None, Usage())
    return without_covered(reply, Sendable(PAGES[0], Path("a.png"), (Redaction("phone", "01228762033", ()),)))


def test_a_label_never_tells_what_is_covered_on_its_page() -> None:
    phone = {"properties": {"phone": {"type": ["string", "null"]}, "text": {"type": "string"}}}
    reply, _ = covered(phone, {"phone": "٠١٢٢ ٨٧٦ ٢٠٣٣", "text": "هاتف 0122-876-2033 للاستفسار"})
    assert reply is not None
    assert reply.value == json.loads(reply.text) == {"phone": None, "text": "هاتف █ للاستفسار"}


def test_a_label_that_has_to_tell_what_is_covered_is_left_out() -> None:
    reply, why = covered({"properties": {"phone": {"type": "string"}}}, {"phone": "01228762033"})
    assert reply is None
    assert why.startswith("its label tells what is redacted on the page, and cannot be null there (/phone: ")
