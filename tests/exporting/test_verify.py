"""When an artifact answers as its model: by its tokens up to near ties, or by the task's score."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.artifact_files import Verification
from gemtune.data.conversation import Conversation
from gemtune.exporting.runtime import Choice
from gemtune.exporting.verify import NEAR_TIE, Answers, Prompt, prompts_of, verification_key, verify
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer
from gemtune.recipe.schema import Recipe
from gemtune.rendering.renderer import Renderer
from gemtune.tasks import task_of

ROWS = [("swim", "🏊"), ("pizza", "🍕"), ("coffee", "☕"), ("love", "❤️")] * 5
STOP = 106  # <end_of_turn>


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_model), family_of(tiny_model))


@pytest.fixture(scope="module")
def prompts(renderer: Renderer) -> list[Prompt]:
    return prompts_of([conversation(text, answer, n) for n, (text, answer) in enumerate(ROWS)], renderer, Path("data"))


def conversation(text: str, answer: str, number: int = 0) -> Conversation:
    return task_of(recipe()).conversation({"text": text, "emoji": answer}, f"e.csv:{number + 2}")


def recipe() -> Recipe:
    return Recipe(task="emoji", data="e.csv")  # type: ignore[arg-type]


def answers(renderer: Renderer, texts: list[str], margin: float = 1.0, **changes: object) -> Answers:
    """Replies that end with the stop token, every choice at one margin."""
    ids = [renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    replies = [[Choice(token, margin) for token in [*reply, STOP]] for reply in ids]
    return Answers(**{"runtime": "r 1", "seconds": 0.5, "cut_alike": [True] * len(texts), "replies": replies} | changes)


def judged(renderer: Renderer, prompts: list[Prompt], reference: Answers, found: Answers, exact: bool) -> Verification:
    settings = {"is_exact": exact, "renderer": renderer, "task": task_of(recipe()), "recipe": recipe()}
    return verify(found, reference, prompts, **settings)  # type: ignore[arg-type]


GOLD = [answer for _, answer in ROWS]


@pytest.mark.parametrize("exact", [True, False])
def test_the_same_replies_pass(exact: bool, renderer: Renderer, prompts: list[Prompt]) -> None:
    same = answers(renderer, GOLD)
    found = judged(renderer, prompts, same, same, exact)
    agreement = found.agreement
    assert found.passed and found.metric == "f1" and found.score and found.score.tuned.mean == 1.0
    assert agreement.tokens == agreement.tokens_agreed == sum(map(len, same.replies))
    assert (agreement.replies_equal, agreement.stopped, agreement.partings) == (20, 20, [])
    assert Verification.from_json(found.to_json(), "verify.json") == found


@pytest.mark.parametrize(("margin", "passes"), [(NEAR_TIE / 2, True), (NEAR_TIE * 2, False)])
def test_full_precision_may_part_at_a_near_tie_alone(
    margin: float, passes: bool, renderer: Renderer, prompts: list[Prompt]
) -> None:
    reference, found = answers(renderer, GOLD, margin), answers(renderer, ["🐶", *GOLD[1:]])
    verification = judged(renderer, prompts, reference, found, exact=True)
    (parting,) = verification.agreement.partings
    assert verification.passed == passes and parting.where == "e.csv:2" and parting.margin == margin
    assert parting.token == 0 and verification.agreement.replies_equal == 19
    assert f"{margin:.3f}" in verification.why and ("near ties" in verification.why) == passes


@pytest.mark.parametrize(("wrong", "passes"), [(1, True), (2, False)])
def test_a_quantised_one_may_lose_a_row_of_twenty(
    wrong: int, passes: bool, renderer: Renderer, prompts: list[Prompt]
) -> None:
    """Whatever its tokens."""
    found = answers(renderer, ["🐶"] * wrong + GOLD[wrong:])
    verification = judged(renderer, prompts, answers(renderer, GOLD), found, exact=False)
    assert verification.passed == passes and verification.score
    assert verification.score.difference.mean == pytest.approx(-wrong / 20)
    assert f"{1 - wrong / 20:.3f} against 1.000" in verification.why


def test_a_quantised_one_may_be_better(renderer: Renderer, prompts: list[Prompt]) -> None:
    reference = answers(renderer, ["🐶"] * 10 + GOLD[10:])
    assert judged(renderer, prompts, reference, answers(renderer, GOLD), exact=False).passed


@pytest.mark.parametrize("exact", [True, False])
def test_another_tokenizer_fails(exact: bool, renderer: Renderer, prompts: list[Prompt]) -> None:
    found = answers(renderer, GOLD, cut_alike=[False] + [True] * 19)
    verification = judged(renderer, prompts, answers(renderer, GOLD), found, exact)
    assert not verification.passed and "cuts 1 of 20 prompts" in verification.why


def test_one_that_does_not_stop_fails(renderer: Renderer, prompts: list[Prompt]) -> None:
    """It goes on behind the reference's stop token."""
    reference = answers(renderer, GOLD)
    going_on = [[*reply, Choice(300, 1.0)] for reply in reference.replies]
    found = answers(renderer, GOLD, replies=going_on)
    verification = judged(renderer, prompts, reference, found, exact=True)
    assert not verification.passed and verification.agreement.stopped == 0
    assert verification.agreement.reference_stopped == 20


def test_what_a_prompt_is(renderer: Renderer, prompts: list[Prompt]) -> None:
    asked = prompts[0]
    assert asked.ids == renderer.prompt_ids(asked.conversation)
    [(text, ids)] = asked.pieces
    assert text.startswith("<bos><start_of_turn>user") and text.endswith("<start_of_turn>model\n") and ids == asked.ids
    key = verification_key(prompts, 8)
    assert key == verification_key(list(prompts), 8) and key != verification_key(prompts, 9)
    assert key != verification_key(prompts[1:], 8)
