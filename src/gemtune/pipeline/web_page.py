"""A run's exported model -> export/web/: a static page that answers as the run's own evaluation does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gemtune.data.conversation import Conversation
from gemtune.errors import GemtuneError
from gemtune.exporting.formats import PAGE
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.runtime import Choice
from gemtune.pipeline.job import Job
from gemtune.runs import PARTS
from gemtune.serving.web_assets import PACKAGES, Package
from gemtune.serving.web_folder import Golden, Model, Site, write_web

ENCODING = "q8_0"
GGUF = f"gguf-{ENCODING}"
ROWS = 5  # that a browser must answer as this machine does
TOKENS = 16  # of each reply, at most: a wrong kernel parts at the first, and a phone writes few a second
EXAMPLES, LONGEST = 4, 60  # buttons with a text to try, and its characters
TYPED = "\ue000"  # stands for what a visitor types; no text has it
# Nats by which a choice was ahead so that every processor and graphics card makes it. 8-bit builds of llama.cpp part at
# 0.1 and less; a wrong kernel parts anywhere.
CERTAIN = 0.5
LEAST_CONTEXT = 1024


def require_page(job: Job, formats: Sequence[str]) -> None:
    """GemtuneError where formats ask for the page of a run that a page cannot ask."""
    if PAGE in formats and job.image_tokenizer is not None:
        raise GemtuneError("the page takes text, and this run's task has images; `gemtune export` writes its artifacts")


def write_page(
    job: Job, assets: Path | None = None, packages: Sequence[Package] = PACKAGES, certain: float = CERTAIN
) -> Path:
    """Puts the page of the artifact in place and returns its folder; `assets` holds the engine's packages."""
    from gemtune.training.checkpoint import save_folder

    tuned, folder = next(job.run.artifact(GGUF).glob("*.gguf")), job.run.artifact(PAGE)
    with _base_model(job) as base:
        site = _site(job, tuned, base, certain)
        job.say(f"web: writing {folder}")
        save_folder(folder, lambda scratch: write_web(site, scratch, assets, packages))
    return folder


@contextmanager
def _base_model(job: Job) -> Iterator[Path]:
    """The model before its training, in the same form: a GGUF file for as long as it is needed."""
    from gemtune.exporting.gguf_model import write_language_model

    scratch = job.run.artifact(".base.tmp")
    job.say("web: writing the base model, for comparison")
    try:
        yield write_language_model(job.weights_folder, scratch / "base.gguf", ENCODING)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _site(job: Job, tuned: Path, base: Path, certain: float) -> Site:
    decoding, recipe = job.recipe.evaluate, job.recipe
    before, after = _prompt_text(job, job.task.asked(TYPED)).split(TYPED)
    rows = _rows(job)
    typed = [row.key for row in rows if _prompt_text(job, row) == before + row.key + after]
    is_folder = Path(recipe.model).is_dir()  # whose place on this machine is nobody's business
    names = recipe.name, Path(recipe.model).name if is_folder else recipe.model
    proofs = [_golden(job, gguf, rows[:ROWS], certain) for gguf in (tuned, base)]
    if not proofs[0]:
        job.say("web: no reply of the model begins with a choice it is sure of, so no browser is put to the proof")
    return Site(
        tuned=Model(names[0], tuned, proofs[0]),
        base=Model(names[1], base, proofs[1]),
        placeholder="Type a text",
        before=before,
        after=after,
        limit=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        context=max(LEAST_CONTEXT, recipe.train.max_length + decoding.max_new_tokens),
        examples=[text for text in dict.fromkeys(typed) if len(text) <= LONGEST][:EXAMPLES],
    )


def _rows(job: Job) -> list[Conversation]:
    """Test rows, or where there are none those of val or train."""
    from gemtune.evaluation.evaluate import evaluation_rows

    for part in reversed(PARTS):
        if rows := evaluation_rows(job.run.part(part), job.renderer, job.task, job.recipe, ROWS * EXAMPLES):
            return rows
    raise GemtuneError(f"{job.run.data}: no rows to prove the page with; give the run some")


def _prompt_text(job: Job, conversation: Conversation) -> str:
    """A prompt as llama.cpp takes it: it writes the first token itself."""
    return job.renderer.prompt_text(conversation).removeprefix(str(job.tokenizer.bos_token))


def _golden(job: Job, gguf: Path, rows: Sequence[Conversation], certain: float) -> list[Golden]:
    """What a model answers on this machine, as far as each choice was certain; nothing where none was."""
    golden = []
    with LlamaCpp(gguf) as runtime:
        for row in rows:
            choices = runtime.decode(job.renderer.prompt_ids(row), min(TOKENS, job.recipe.evaluate.max_new_tokens))
            tokens = certain_tokens(choices, job.renderer.stop_ids, certain)
            if reply := job.tokenizer.decode(tokens).rstrip("\ufffd"):  # half an emoji is none
                golden.append(Golden(_prompt_text(job, row), reply, len(tokens)))
    return golden


def certain_tokens(choices: Sequence[Choice], stops: Sequence[int], certain: float = CERTAIN) -> list[int]:
    """The beginning of a reply that no near tie could change.

    >>> certain_tokens([Choice(7, 3.0), Choice(8, 0.9), Choice(9, 0.1), Choice(10, 4.0)], [1])
    [7, 8]
    >>> certain_tokens([Choice(7, 3.0), Choice(1, 2.0)], [1])
    [7]
    """
    tokens: list[int] = []
    for choice in choices:
        if not choice.margin >= certain or choice.token in stops:  # it is no number within a character
            break
        tokens.append(choice.token)
    return tokens
