"""One reply: its text in pieces that join to the whole, whatever the tokens, and where it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemtune.errors import RequestError
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer
from gemtune.rendering.renderer import Renderer
from gemtune.serving.replies import Drawing, Piece, Putting, Reply, Sampling

GREEDY = Sampling(0.0, 1.0, 0, limit=1_000)


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_model), family_of(tiny_model))


def pieces_of(renderer: Renderer, ids: list[int], **sampling: Any) -> list[Piece]:
    told: list[Any] = []
    reply = Reply(
        renderer=renderer, sampling=Sampling(**{**vars(GREEDY), "limit": len(ids), **sampling}), tell=told.append
    )
    for token in ids:
        if not reply.is_over:
            reply.put(token)
    return told


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def ids_of(renderer: Renderer, text: str) -> list[int]:
    return list(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_pieces_join_to_the_reply_whatever_the_tokens(renderer: Renderer, data: st.DataObject) -> None:
    """Also of bytes that are no characters, control tokens and white space."""
    ids = data.draw(st.lists(st.integers(0, len(renderer.tokenizer) - 1), min_size=1, max_size=30))
    pieces = pieces_of(renderer, ids)
    assert text_of(pieces) == renderer.reply(ids)[0]
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1) and pieces[-1].finish


@pytest.mark.parametrize("text", ["👩‍👩‍👧🏖️🇯🇵1️⃣", "مرحبا بالعالم", "a  b\n\n c", "日本語 🏊"])
def test_no_piece_holds_half_a_character(renderer: Renderer, text: str) -> None:
    pieces = pieces_of(renderer, [*ids_of(renderer, text), renderer.stop_ids[0]])
    assert text_of(pieces) == text and not any("\ufffd" in piece.text for piece in pieces)


@settings(max_examples=200, deadline=None)
@example(text="#aa", stops=["a", "#aa"])
@given(
    text=st.text("ab #\n🏖", min_size=1, max_size=20),
    stops=st.lists(st.text("ab #🏖", min_size=1, max_size=3), max_size=3),
)
def test_a_stop_never_shows(renderer: Renderer, text: str, stops: list[str]) -> None:
    ids = [*ids_of(renderer, text), renderer.stop_ids[0]]
    whole = renderer.text(ids[:-1]).lstrip()
    first = next((end for end in range(len(whole)) if whole[: end + 1].endswith(tuple(stops))), None)  # complete there
    shown = whole
    if first is not None:
        begun = whole[: first + 1]
        shown = begun[: -max(len(stop) for stop in stops if begun.endswith(stop))]
    assert text_of(pieces_of(renderer, ids, stops=stops)) == shown.rstrip()


def test_the_end_has_its_reason(renderer: Renderer) -> None:
    ids = ids_of(renderer, "good morning")
    assert pieces_of(renderer, ids)[-1].finish == "length"
    assert pieces_of(renderer, [*ids, renderer.stop_ids[1]])[-1].finish == "stop"
    assert pieces_of(renderer, ids, stops=["morn"])[-1].finish == "stop"


def reply_of(renderer: Renderer, told: list[Any], **more: Any) -> Reply:
    sampling = Sampling(**{**vars(GREEDY), **more.pop("sampling", {})})
    return Reply(renderer=renderer, sampling=sampling, tell=told.append, **more)


def test_rows_of_a_batch_are_drawn_each_in_its_own_way(renderer: Renderer) -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0]] * 3)
    first = SimpleNamespace(mask=lambda scores: scores.masked_fill(torch.tensor([0, 1, 1]).bool(), -torch.inf))
    hot = {"temperature": 100.0, "seed": 1}
    rows = [reply_of(renderer, []), reply_of(renderer, [], grammar=first), reply_of(renderer, [], sampling=hot)]
    drawn = [Drawing(rows)(torch.zeros(3, 1), scores.clone()).argmax(-1).tolist() for _ in range(30)]
    assert {row[0] for row in drawn} == {2} and {row[1] for row in drawn} == {0}
    assert {row[2] for row in drawn} == {0, 1, 2}


def test_a_reply_that_cannot_go_on_leaves_the_others(renderer: Renderer) -> None:
    def refuse(scores: torch.Tensor) -> torch.Tensor:
        raise RequestError("too much work")

    told: list[Any] = []
    rows = [reply_of(renderer, told, grammar=SimpleNamespace(mask=refuse)), reply_of(renderer, [])]
    scores = Drawing(rows)(torch.zeros(2, 1), torch.tensor([[0.0, 1.0]] * 2))
    assert [str(error) for error in told] == ["too much work"]
    assert scores.argmax(-1).tolist() == [1, 1]
    assert Putting(rows)(torch.tensor([[7], [200]]), None).tolist() == [True, False]
    assert rows[1].ids == [200] and not rows[0].ids
