"""A run's weights -> artifacts: each made whole, then verified in its own runtime."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.artifact_files import Artifact
from gemtune.errors import RunError
from gemtune.exporting.formats import FORMATS, Format
from gemtune.files import sha256_of_text, write_json
from gemtune.hardware import forget_peak_memory, peak_memory_gb, peak_memory_of_children_gb
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import plain_model, trained_token_ids, weights_folder
from gemtune.run_contents import WHOLE
from gemtune.runs import PARTS, REVISIONS, VERSIONS

if TYPE_CHECKING:
    from torch import Tensor

    from gemtune.exporting.merge import Merged, Tuned
    from gemtune.exporting.plain import PlainRuntime
    from gemtune.exporting.verify import Answers, Prompt

COMPARED = 4  # prompts whose logits are compared before and after merging
LAST = 8  # of their positions


def write_artifacts(job: Job, formats: Sequence[str], name: str, limit: int) -> list[Artifact]:
    """Artifacts of the weights `name` in formats of FORMATS; what is there, whole and verified is not made again."""
    source = _Source(job, name, limit)
    try:
        for format_name in formats:
            _make(source, format_name)
        return [_verified(source, format_name) for format_name in formats]
    finally:
        shutil.rmtree(source.scratch, ignore_errors=True)


def _make(source: _Source, name: str) -> None:
    """Puts the artifact of a format in place, whole."""
    from gemtune.training.checkpoint import save_folder

    run = source.job.run
    folder = run.artifact(name)
    if source.has(name):
        return
    forget_peak_memory()
    began, of_children = time.monotonic(), peak_memory_of_children_gb()
    merged, words = source.merged
    source.job.say(f"{name}: writing {folder}")
    save_folder(folder, lambda scratch: _write(source, FORMATS[name], merged, scratch))
    seconds, by_children = time.monotonic() - began, peak_memory_of_children_gb()
    peak = max(peak_memory_gb("cpu"), by_children if by_children > of_children else 0.0)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    note = Artifact(
        version=VERSIONS["verify"],
        format=name,
        weights=source.name,
        key=source.key(name),
        bytes=size,
        modules=words,
        seconds=round(seconds, 1),
        peak_memory_gb=round(peak, 2),
    )
    write_json(run.verify_file(name), note.to_json())


def _write(source: _Source, format_: Format, merged: Path, folder: Path) -> None:
    if format_.write:
        format_.write(merged, folder)
    if format_.write_apart:
        format_.write_apart(*source.base_and_tuned, folder)


def _verified(source: _Source, name: str) -> Artifact:
    """What is known of an artifact, with what its runtime answers."""
    from gemtune.exporting.verify import verification_key, verify

    job, run = source.job, source.job.run
    note = source.note(name)
    if note is None:
        raise RunError(f"{run.verify_file(name)}: gone; run `gemtune export` again")
    if note.verification and note.verification.key == verification_key(source.prompts, source.tokens):
        return note
    is_merged = name == "merged"
    verification = verify(
        source.plain[0] if is_merged else source.answers_of(name),
        source.unmerged[0] if is_merged else source.plain[0],
        source.prompts,
        is_exact=FORMATS[name].is_exact,
        renderer=job.renderer,
        task=job.task,
        recipe=job.recipe,
        part=source.part,
    )
    difference = source.logits_difference() if is_merged else None
    note = replace(note, verification=verification, logits_difference=difference)
    write_json(run.verify_file(name), note.to_json())
    return note


class _Source:
    """The weights that are exported, and what is known of them, each found when first asked for."""

    def __init__(self, job: Job, name: str, limit: int):
        self.job, self.name, self._limit = job, name, limit
        self.tokens = job.recipe.evaluate.max_new_tokens
        self.scratch = job.run.artifact(".source.tmp")

    def key(self, format_name: str) -> str:
        """Equal where the same artifact would be written again."""
        from gemtune.models.families import chat_template
        from gemtune.models.hub import fingerprint

        base, _ = self.base_and_tuned
        whole = "" if self.name == "base" else (weights_folder(self.job, self.name) / WHOLE).read_text(encoding="utf-8")
        decoding = self.job.recipe.evaluate
        said = f"{REVISIONS['artifacts']} {format_name} {decoding.temperature} {decoding.top_p}"
        return sha256_of_text(said, fingerprint(base), whole, chat_template(self.job.family))

    def note(self, format_name: str) -> Artifact | None:
        """What is known of an artifact; nothing where that is damaged."""
        try:
            return self.job.run.artifact_note(format_name)
        except RunError:
            return None

    def has(self, format_name: str) -> bool:
        """Whether the artifact of a format is there, of these weights and whole."""
        from gemtune.training.checkpoint import damage

        note = self.note(format_name)
        is_same = note is not None and note.key == self.key(format_name)
        return is_same and damage(self.job.run.artifact(format_name)) is None

    @cached_property
    def base_and_tuned(self) -> tuple[Path, Tuned | None]:
        """The base model's folder, or a fully trained one, and what was trained beside it."""
        from gemtune.exporting.merge import Tuned, tuned_adapter
        from gemtune.training.checkpoint import WEIGHTS, require_whole

        job, base = self.job, self.job.weights_folder
        if self.name == "base":
            return base, None
        folder, lora = require_whole(weights_folder(job, self.name)), job.recipe.lora
        if self.name == "tuned":
            return (base, tuned_adapter(folder, base)) if lora else (folder, None)
        scale, ids = (lora.alpha / lora.r, trained_token_ids(job)) if lora else (1.0, [])
        return base, Tuned(folder / WEIGHTS, scale, ids)

    @cached_property
    def merged(self) -> tuple[Path, str]:
        """The merged model in a folder, the artifact where it is there, and what was merged in words."""
        from gemtune.exporting.merge import write_merged
        from gemtune.exporting.texts import write_texts
        from gemtune.models.boundary import saving
        from gemtune.models.loading import special_ids

        job = self.job
        if (note := self.note("merged")) and self.has("merged"):
            return job.run.artifact("merged"), note.modules
        base, tuned = self.base_and_tuned
        with saving(self.scratch):
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir(parents=True)
            merged = write_merged(base, tuned, self.scratch, tick=partial(job.tick, "tensors"))
            settings = job.image_tokenizer.settings if job.image_tokenizer else {}
            ids = special_ids(job.tokenizer, job.family)
            write_texts(base, self.scratch, ids, settings, job.recipe.evaluate)
        return self.scratch, _words(merged)

    @cached_property
    def _rows(self) -> tuple[str, list[Prompt]]:
        from gemtune.evaluation.evaluate import evaluation_rows
        from gemtune.exporting.verify import prompts_of

        job, run = self.job, self.job.run
        for part in reversed(PARTS):
            if rows := evaluation_rows(run.part(part), job.renderer, job.task, job.recipe, self._limit):
                return part, prompts_of(rows, job.renderer, run.data)
        raise RunError(f"{run.data}: no rows to verify an artifact on; give the run some")

    @property
    def part(self) -> str:
        """The part whose rows are asked: test, where it has any."""
        return self._rows[0]

    @property
    def prompts(self) -> list[Prompt]:
        """What the reference and every artifact are asked."""
        return self._rows[1]

    @cached_property
    def unmerged(self) -> tuple[Answers, list[Tensor]]:
        """What the base with its adapter answers, and some of its logits."""
        from gemtune.exporting.plain import PlainRuntime

        job, images = self.job, self.job.image_tokenizer
        vision, processor = (images.family, images.processor) if images else (None, None)
        name = "transformers and PEFT" if job.recipe.lora and self.name != "base" else "transformers"
        model, stops, settings = plain_model(job, self.name), job.renderer.stop_ids, images.settings if images else {}
        return self._asked(PlainRuntime(model, job.tokenizer, stops, vision, processor, settings, name), "reference")

    @cached_property
    def plain(self) -> tuple[Answers, list[Tensor]]:
        """What the merged model answers in plain transformers, and some of its logits."""
        from gemtune.exporting.plain import PlainRuntime

        return self._asked(PlainRuntime.of(self.merged[0]), "merged")

    def answers_of(self, format_name: str) -> Answers:
        """What an artifact answers in its own runtime."""
        from gemtune.exporting.verify import answers_of

        with FORMATS[format_name].runtime(self.job.run.artifact(format_name)) as runtime:
            return answers_of(runtime, self.prompts, self.tokens, self._tick(format_name))

    def logits_difference(self) -> float:
        """The greatest between the base with its adapter and the merged model."""
        pairs = zip(self.unmerged[1], self.plain[1], strict=True)
        return max(float((before - after).abs().max()) for before, after in pairs)

    def _asked(self, runtime: PlainRuntime, what: str) -> tuple[Answers, list[Tensor]]:
        from gemtune.exporting.verify import answers_of

        with runtime:
            answers = answers_of(runtime, self.prompts, self.tokens, self._tick(what))
            compared = self.prompts[:COMPARED]
            return answers, [runtime.logits(prompt.ids, prompt.images)[-LAST:].clone() for prompt in compared]

    def _tick(self, what: str) -> partial[None]:
        return partial(_tick, self.job, f"{what} replies", len(self.prompts))


def _tick(job: Job, what: str, total: int, done: int) -> None:
    job.tick(what, done, total)


def _words(merged: Merged) -> str:
    """What was merged, in words.

    >>> from gemtune.exporting.merge import Merged
    >>> _words(Merged(236, adapters=126, token_rows=2)), _words(Merged(236))
    ('126 of 126 adapters and 2 token rows in 236 tensors', '236 tensors as they are')
    """
    parts = [f"{merged.adapters} of {merged.adapters} adapters"] if merged.adapters else []
    parts += [f"{merged.token_rows} token rows"] if merged.token_rows else []
    parts += [f"{merged.replaced} whole layers"] if merged.replaced else []
    return f"{' and '.join(parts)} in {merged.tensors} tensors" if parts else f"{merged.tensors} tensors as they are"
