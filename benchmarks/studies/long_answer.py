"""Is an answer of 12,000 tokens about a page trained whole, with the loss of plain transformers?

    python -m benchmarks.studies.long_answer TINY [--tokens 12000]

`gemtune tiny gemma3-vision TINY` writes the model. A page with an answer of that many tokens is prepared as a recipe of
documents prepares its rows; printed are its tokens and how many of them are trained, the loss beside that of the stock
model, every logit of it, the peak of memory of forward and backward, and what is said where `train.max_length` is less.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, AutoModelForImageTextToText

from gemtune.data.images import open_rgb
from gemtune.errors import GemtuneError
from gemtune.models.adapters import attach_adapters
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Lora
from gemtune.rendering.renderer import Example
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss

SENTENCE = "البند {number}: مرحبا بالعالم, let's go to the beach and swim."


@dataclass(frozen=True)
class LongAnswer:
    """A page with a long answer, as it is trained."""

    tokens: int  # of the row: page, prompt and answer
    answer: int  # tokens of the answer alone
    trained: int  # those that carry a label
    loss: float  # in nats a labelled token
    stock: float
    seconds: float  # of forward and backward
    peak: int  # bytes of the process, before the stock model is loaded
    dropped: str  # what is said where max_length is one token too few

    @property
    def is_whole(self) -> bool:
        return self.trained >= self.answer

    def lines(self) -> Sequence[str]:
        return (
            f"a row of {self.tokens:,} tokens, {self.answer:,} of them the answer, {self.trained:,} trained: "
            f"{'whole' if self.is_whole else 'CUT'}",
            f"loss {self.loss:.7f}, of the stock model {self.stock:.7f}: relative difference "
            f"{abs(self.loss / self.stock - 1):.1e}",
            f"forward and backward {self.seconds:.0f} s, peak {self.peak / 2**30:.2f} GiB of the process",
            f"one token less in train.max_length: {self.dropped}",
        )


def long_answer(model: Path, place: Path, tokens: int) -> LongAnswer:
    """Trains one step on a page whose answer has at least that many tokens; everything is written into `place`."""
    job, answer = _job(model, place, tokens)
    stages.prepare(job)
    table = ExampleTable(job.run.table("train"))
    example = max((table[index] for index in range(len(table))), key=lambda row: len(row.input_ids))
    trained = sum(end - start for start, end in example.spans)
    loss, seconds = _step(job, example)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return LongAnswer(
        tokens=len(example.input_ids),
        answer=answer,
        trained=trained,
        loss=loss / trained,
        stock=_stock_loss(job, example) / trained,
        seconds=seconds,
        peak=peak,
        dropped=_said_of(model, place, tokens, len(example.input_ids) - 1),
    )


def _job(model: Path, place: Path, tokens: int, max_length: int | None = None) -> tuple[Job, int]:
    """A job whose only train row is the page with the long answer, and the tokens of that."""
    page = Image.new("RGB", (850, 1100), "white")
    ImageDraw.Draw(page).text((60, 60), "a page of twelve thousand tokens", fill="black")
    page.save(place / "page.png")
    recipe = place / f"documents-{max_length}.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": f"long-{max_length}",
                "task": "documents",
                "model": str(model),
                "runs_dir": str(place / "runs"),
                "data": [{"source": "rows.jsonl", "images": ["."]}],
                "split": {"val": 0, "test": 0},
                "vision": {"pan_and_scan": True},
                "train": {"max_length": max_length or 2 * tokens + 2_000},
            }
        ),
        encoding="utf-8",
    )
    job = Job(recipe, say=lambda text: None)
    elements: list[dict[str, str]] = []
    length = 0
    while length < tokens:
        number = len(elements) + 1
        elements.append({"type": "paragraph", "markdown": SENTENCE.format(number=number)})
        if number % 20 == 0 or tokens < 1_000:
            length = len(job.tokenizer(_text(elements), add_special_tokens=False).input_ids)
    row = {"image": "page.png", "prompt": "Read this page.", "task": "content", "answer": _text(elements)}
    (place / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    return job, length


def _text(elements: list[dict[str, str]]) -> str:
    return json.dumps({"elements": elements}, ensure_ascii=False)


def _step(job: Job, example: Example) -> tuple[float, float]:
    """The summed loss of a row, forward and backward through adapters on every linear layer, and how long that took."""
    base = load_model(job.folder)
    model = install_kernels(attach_adapters(base, Lora(token_rows="none"), job.family, [], 0))  # noqa: S106
    start = time.perf_counter()
    loss, _ = labelled_loss(model, micro_batch([example]), job.image_features(model))
    loss.backward()
    return loss.item(), time.perf_counter() - start


def _stock_loss(job: Job, example: Example) -> float:
    """The same by the stock model and processor: every logit, PyTorch's cross-entropy in fp64."""
    model = AutoModelForImageTextToText.from_pretrained(job.folder, attn_implementation="sdpa").eval()
    settings = job.image_tokenizer.settings if job.image_tokenizer else {}
    opened = [open_rgb(job.run.data / image) for image in example.images]
    pixels = AutoImageProcessor.from_pretrained(job.folder)(images=opened, return_tensors="pt", **settings)
    ids, kinds = torch.tensor([example.input_ids]), torch.zeros(1, len(example.input_ids), dtype=torch.long)
    for start, end in example.image_spans:
        kinds[:, start:end] = 1
    with torch.no_grad():
        logits = model(input_ids=ids, token_type_ids=kinds, pixel_values=pixels["pixel_values"]).logits[0]
    targets = torch.full_like(ids[0], -100)
    for start, end in example.spans:
        targets[start:end] = ids[0, start:end]
    return torch.nn.functional.cross_entropy(logits[:-1].double(), targets[1:], reduction="sum").item()


def _said_of(model: Path, place: Path, tokens: int, max_length: int) -> str:
    job, _ = _job(model, place, tokens, max_length)
    try:
        stages.prepare(job)
    except GemtuneError as error:
        return str(error)
    return "NOTHING"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=12_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for line in long_answer(arguments.model.absolute(), Path(place), arguments.tokens).lines():
            print(line, flush=True)


if __name__ == "__main__":
    main()
