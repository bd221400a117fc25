"""Whether an artifact, in the program that will run it, answers as the model that it was made from."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemtune.artifact_files import Agreement, Parting, Verification
from gemtune.data.conversation import Conversation
from gemtune.evaluation.summary import compared_scores
from gemtune.exporting.runtime import Choice, Runtime
from gemtune.files import sha256_of_text
from gemtune.recipe.schema import Recipe
from gemtune.rendering.renderer import Renderer
from gemtune.run_files import Comparison
from gemtune.tasks.base import Task, counted_scores

PROMPTS = 32  # that an artifact is verified on
# Nats by which the reference's second choice may be behind where a full-precision artifact parts from it. bf16 and fp32
# of Gemma 3 270M part at 0.02 to 0.05; a wrong scale or a lost norm parts at any margin.
NEAR_TIE = 0.1
# Of the reference's lead (of its first choice over its second), the share that an artifact may move on average. 8 bits
# of Gemma 3 270M move 3 to 8 %, bf16 of a tiny model 2 %; a zeroed matrix of the 270M 22 to 67 %.
EXACT_DRIFT = 0.05
QUANTISED_DRIFT = 0.15
# Of the task's deciding score that quantisation may cost: a row of twenty.
MOST_LOSS = 0.05


@dataclass(frozen=True)
class Prompt:
    """A row as a runtime is asked it."""

    conversation: Conversation
    ids: list[int]
    pieces: list[tuple[str, list[int]]]  # its text between images, and the tokens of that
    images: list[Path]


@dataclass(frozen=True)
class Answers:
    """What a runtime made of the prompts, in their order."""

    runtime: str
    seconds: float
    cut_alike: list[bool]
    replies: list[list[Choice]]


def prompts_of(conversations: Sequence[Conversation], renderer: Renderer, data: Path) -> list[Prompt]:
    """Rows of a data directory as prompts, by the renderer that training and evaluation use."""
    return [_prompt(conversation, renderer, data) for conversation in conversations]


def _prompt(conversation: Conversation, renderer: Renderer, data: Path) -> Prompt:
    ids, text = renderer.prompt_ids(conversation), renderer.prompt_text(conversation)
    images = [data / path for path in conversation.image_paths]
    if not images:
        return Prompt(conversation, ids, [(text, ids)], [])
    token = re.escape(renderer.tokenizer.convert_ids_to_tokens(renderer.image_token))
    texts = [piece for piece in re.split(f"(?:{token})+", text) if piece]
    pieces = [(piece, list(renderer.tokenizer(piece, add_special_tokens=False)["input_ids"])) for piece in texts]
    return Prompt(conversation, ids, pieces, images)


def answers_of(
    runtime: Runtime, prompts: Sequence[Prompt], limit: int, tick: Callable[[int], None] = lambda done: None
) -> Answers:
    """The replies of a runtime to all prompts, of at most `limit` tokens each."""
    began, cut_alike, replies = time.monotonic(), [], []
    for number, prompt in enumerate(prompts, 1):
        cut_alike.append(all(runtime.tokenize(text) == ids for text, ids in prompt.pieces))
        replies.append(runtime.decode(prompt.ids, limit, prompt.images))
        tick(number)
    return Answers(runtime.name, round(time.monotonic() - began, 1), cut_alike, replies)


def verification_key(prompts: Sequence[Prompt], limit: int) -> str:
    """Equal where an artifact would be asked the same, and judged by the same bounds."""
    bounds = (limit, NEAR_TIE, EXACT_DRIFT, QUANTISED_DRIFT, MOST_LOSS)
    return sha256_of_text(str(bounds), *(str(prompt.ids) for prompt in prompts))


def verify(
    answers: Answers,
    reference: Answers,
    prompts: Sequence[Prompt],
    *,
    is_exact: bool,
    renderer: Renderer,
    task: Task,
    recipe: Recipe,
    part: str = "test",
) -> Verification:
    """An artifact's answers against the reference's; `is_exact` says that its weights are not quantised."""
    agreement = _agreement(answers, reference, prompts, renderer.stop_ids)
    silent, before, after = (
        [counted_scores(task, prompt.conversation, text) for prompt, text in zip(prompts, texts, strict=True)]
        for texts in ([""] * len(prompts), _texts(reference, renderer), _texts(answers, renderer))
    )
    compared, gained = compared_scores(recipe, task, before, after), compared_scores(recipe, task, silent, before)
    passed, why = judged(agreement, compared, gained, is_exact)
    return Verification(
        key=verification_key(prompts, recipe.evaluate.max_new_tokens),
        runtime=answers.runtime,
        reference=reference.runtime,
        part=part,
        agreement=agreement,
        metric=compared[0] if compared else None,
        score=compared[1] if compared else None,
        seconds=answers.seconds,
        passed=passed,
        why=why,
    )


def _texts(answers: Answers, renderer: Renderer) -> list[str]:
    return [renderer.reply([choice.token for choice in reply])[0] for reply in answers.replies]


def _agreement(answers: Answers, reference: Answers, prompts: Sequence[Prompt], stop_ids: Sequence[int]) -> Agreement:
    pairs = list(zip(reference.replies, answers.replies, strict=True))
    same = [_same_tokens(first, second) for first, second in pairs]
    partings = [
        Parting(where=prompt.conversation.where, token=count, margin=first[min(count, len(first) - 1)].margin)
        for prompt, count, (first, second) in zip(prompts, same, pairs, strict=True)
        if count < max(len(first), len(second)) and first
    ]
    stopped = [sum(bool(reply) and reply[-1].token in stop_ids for reply in side) for side in zip(*pairs, strict=True)]
    return Agreement(
        prompts=len(prompts),
        prompts_cut_alike=sum(answers.cut_alike),
        tokens=sum(len(first) for first, _ in pairs),
        tokens_agreed=sum(same),
        replies_equal=len(pairs) - len(partings),
        drift=_drift(pairs),
        reference_stopped=stopped[0],
        stopped=stopped[1],
        partings=partings,
    )


def _same_tokens(first: Sequence[Choice], second: Sequence[Choice]) -> int:
    """
    >>> _same_tokens([Choice(5, 1.0), Choice(6, 0.1)], [Choice(5, 1.1), Choice(7, 0.1)])
    1
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (a, b) in pairs if a.token != b.token), min(len(first), len(second)))


def _drift(pairs: Iterable[tuple[Sequence[Choice], Sequence[Choice]]]) -> float | None:
    """How far an artifact moves the lead of the reference's choices, as a share of that lead, until replies part.

    Free of the model's scale: 0 where nothing was changed, 1 and more where the two have nothing to do with each other.

    >>> round(_drift([([Choice(5, 2.0), Choice(6, 0.2)], [Choice(5, 1.9), Choice(7, 0.1)])]), 4)
    0.1818
    """
    moved = lead = 0.0
    for first, second in pairs:
        for ours, theirs in zip(first, second, strict=False):
            is_same = ours.token == theirs.token
            # Where another token is ahead, the reference's is behind by that lead, or more; unsaid, it is none.
            theirs_lead = theirs.margin if is_same else -theirs.margin
            if math.isnan(theirs_lead):
                theirs_lead = ours.margin if is_same else 0.0
            moved, lead = moved + abs(ours.margin - theirs_lead), lead + ours.margin
            if not is_same:
                break
    return moved / lead if lead else None


def judged(
    agreement: Agreement,
    compared: tuple[str, Comparison] | None,
    gained: tuple[str, Comparison] | None,
    is_exact: bool,
) -> tuple[bool | None, str]:
    """Whether an artifact passes, None where that cannot be seen, and why.

    `compared` is the task's score of the reference and of the artifact, `gained` that of silence and of the reference.
    """
    if differ := agreement.prompts - agreement.prompts_cut_alike:
        return False, f"its tokenizer cuts {differ} of {agreement.prompts} prompts into other tokens"
    if agreement.drift is None:
        return None, "nothing is shown: the reference prefers no token to another"
    most = EXACT_DRIFT if is_exact else QUANTISED_DRIFT
    moved = f"the lead of the likeliest token moved by {agreement.drift:.1%}"
    if agreement.drift > most:
        return False, f"{moved} on average, where {'rounding' if is_exact else 'quantising'} moves {most:.0%} at most"
    passed, why = _judged_by_tokens(agreement) if is_exact else _judged_by_score(compared, gained)
    return passed, f"{moved}; {why}"


def _judged_by_score(
    compared: tuple[str, Comparison] | None, gained: tuple[str, Comparison] | None
) -> tuple[bool | None, str]:
    """Whether the task suffers: a loss counts where its interval is without 0."""
    if compared is None or gained is None:
        return True, "no row has a score that could show a loss"
    name, score = compared
    loss, low, high = _loss(score)
    words = f"{name} {score.tuned.mean:.3f} against {score.base.mean:.3f}"
    if -_loss(gained[1])[0] <= MOST_LOSS:
        return True, f"{words} shows nothing: empty replies get {gained[1].base.mean:.3f}"
    words += f", a loss of {loss:.3f} ({low:.3f} to {high:.3f})"
    if loss <= MOST_LOSS:
        return True, f"{words}; up to {MOST_LOSS:g} passes"
    if low > 0:
        return False, f"{words}, more than the {MOST_LOSS:g} that passes"
    return None, f"{words}: too few rows to tell whether it is more than {MOST_LOSS:g}; give a higher --limit"


def _loss(score: Comparison) -> tuple[float, float, float]:
    """How much worse the second of two models is, and the interval of that."""
    change = score.difference
    if score.direction == "lower":
        return change.mean, change.low, change.high
    return 0 - change.mean, 0 - change.high, 0 - change.low


def _judged_by_tokens(agreement: Agreement) -> tuple[bool, str]:
    parted = len(agreement.partings)
    if not parted:
        return True, f"all {agreement.tokens} tokens are the same"
    widest = max(parting.margin for parting in agreement.partings)
    far = sum(parting.margin > NEAR_TIE for parting in agreement.partings)
    words = f"{parted} of {agreement.prompts} replies part, at a margin of {widest:.3f} nats at most"
    if far:
        return False, f"{words}, {far} beyond the {NEAR_TIE:g} of a near tie"
    return True, f"{words}: near ties, up to {NEAR_TIE:g}"
