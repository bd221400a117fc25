"""When an artifact answers as its model: by its tokens up to near ties, or by the task's score."""

from __future__ import annotations

import math
from dataclasses import replace
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


def doubting(found: Answers, count: int, margin: float = 0.01) -> Answers:
    """The first replies begin with a choice that the next best is close behind."""
    near = [[replace(reply[0], margin=margin), *reply[1:]] for reply in found.replies[:count]]
    return replace(found, replies=near + found.replies[count:])


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
    reference = doubting(answers(renderer, GOLD, 5.0), 1, margin)
    found = doubting(answers(renderer, ["🐶", *GOLD[1:]], 5.0), 1, margin)
    verification = judged(renderer, prompts, reference, found, exact=True)
    (parting,) = verification.agreement.partings
    assert verification.passed == passes and parting.where == "e.csv:2" and parting.margin == margin
    assert parting.token == 0 and verification.agreement.replies_equal == 19
    assert f"{margin:.3f}" in verification.why and ("near ties" in verification.why) == passes


@pytest.mark.parametrize(
    ("wrong", "passed", "words"),
    [
        (1, True, "0.950 against 1.000, a loss of 0.050 (0.000 to 0.150); up to 0.05 passes"),
        (3, None, "a loss of 0.150 (0.000 to 0.300): too few rows to tell whether it is more than 0.05"),
        (8, False, "more than the 0.05 that passes"),
    ],
)
def test_a_quantised_one_may_lose_a_row_of_twenty(
    wrong: int, passed: bool | None, words: str, renderer: Renderer, prompts: list[Prompt]
) -> None:
    """Whatever its tokens, where they part at near ties; a loss that chance explains shows nothing."""
    reference = doubting(answers(renderer, GOLD, 5.0), wrong)
    found = doubting(answers(renderer, ["🐶"] * wrong + GOLD[wrong:], 5.0), wrong)
    verification = judged(renderer, prompts, reference, found, exact=False)
    assert verification.passed is passed and words in verification.why and verification.score
    assert verification.score.difference.mean == pytest.approx(-wrong / 20)


def test_a_quantised_one_may_be_better(renderer: Renderer, prompts: list[Prompt]) -> None:
    reference = doubting(answers(renderer, ["🐶"] * 10 + GOLD[10:], 5.0), 10)
    found = doubting(answers(renderer, GOLD, 5.0), 10)
    assert judged(renderer, prompts, reference, found, exact=False).passed


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("texts", [GOLD, ["🐶"] * 20])
def test_leads_that_move_fail_whatever_the_score(
    exact: bool, texts: list[str], renderer: Renderer, prompts: list[Prompt]
) -> None:
    """The same tokens, with half of the reference's certainty: that is another model."""
    found = answers(renderer, texts, 0.5)
    verification = judged(renderer, prompts, answers(renderer, texts, 1.0), found, exact)
    assert verification.passed is False and verification.agreement.drift == 0.5
    assert verification.why.startswith("the lead of the likeliest token moved by 50.0% on average, where")


def test_a_score_that_silence_gets_too_shows_nothing(renderer: Renderer, prompts: list[Prompt]) -> None:
    """Then the leads decide alone, and it is said."""
    reference = answers(renderer, ["🐶"] * 20)
    verification = judged(renderer, prompts, reference, answers(renderer, ["🐶"] * 20, 0.95), exact=False)
    assert verification.passed and verification.why.endswith(
        "f1 0.000 against 0.000 shows nothing: empty replies get 0.000"
    )
    other = judged(renderer, prompts, reference, answers(renderer, ["🏊"] * 20), exact=False)
    assert other.passed is False and other.agreement.drift == 2.0


def test_without_any_lead_nothing_is_shown(renderer: Renderer, prompts: list[Prompt]) -> None:
    reference = answers(renderer, GOLD, 0.0)
    verification = judged(renderer, prompts, reference, reference, exact=False)
    assert verification.passed is None and verification.agreement.drift is None
    assert verification.why == "nothing is shown: the reference prefers no token to another"


def test_a_margin_that_a_runtime_does_not_say_moves_nothing(renderer: Renderer, prompts: list[Prompt]) -> None:
    reference = answers(renderer, GOLD)
    same, other = answers(renderer, GOLD, math.nan), answers(renderer, ["🐶"] * 20, math.nan)
    assert judged(renderer, prompts, reference, same, exact=True).agreement.drift == 0.0
    assert judged(renderer, prompts, reference, other, exact=True).agreement.drift == 1.0


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
