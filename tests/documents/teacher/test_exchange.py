"""Requests and what is added to one whose reply did not fit."""

from __future__ import annotations

from pathlib import Path

from gemtune.documents.teacher import Request


def test_a_corrected_request_says_what_was_wrong_and_is_else_the_same() -> None:
    request = Request("a.pdf", 1, "fields", 1, Path("x.png"), "Read it.", {"type": "object"})
    corrected = request.corrected('{"a": 1', ("/a: no text", "no JSON"))
    assert corrected.prompt.startswith('Read it.\n\nYour previous reply was:\n{"a": 1\n\n')
    assert "- /a: no text\n- no JSON" in corrected.prompt
    assert corrected.prompt.endswith('{"type": "object"}\n\nReply again with the corrected JSON alone.')
    assert (corrected.image, corrected.schema, str(corrected)) == (request.image, request.schema, str(request))
    assert str(request) == "a.pdf page 1, fields, sample 1"
