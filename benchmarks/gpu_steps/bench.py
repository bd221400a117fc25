"""What every step works with: where it records, its size and device, models of true shapes and rows to train on."""

from __future__ import annotations

import json
import random
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
import yaml

from benchmarks.gpu_steps.results import append
from gemtune.models.families.gemma3 import tiny_text_config
from gemtune.models.tiny import make_tokenizer
from gemtune.training.planner import GEMMA3, ModelShape

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig, PreTrainedModel

ROOT = Path(__file__).resolve().parents[2]
TINY = ModelShape(64, 128, 3, 4, 1, 32, vocab=2_048)  # what a dry run takes for every shape
WORDS = 4_000  # from which rows are made


@dataclass(frozen=True)
class Bench:
    """The place of a step: its name, the file that it records to, its size, and a folder of its own."""

    step: str
    results: Path
    dry: bool
    work: Path
    failures: list[str] = field(default_factory=list)

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    def record(self, **values: object) -> None:
        append(self.results, self.step, **values)

    def lacks(self, what: str) -> None:
        """Records why nothing is measured here."""
        self.record(not_run=what)

    @contextmanager
    def attempt(self, **what: object) -> Iterator[None]:
        """Around one of several measurements: an error is its result, and the next one is taken."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failures.append(str(what))
            self.record(**what, error=f"{type(error).__name__}: {str(error)[:300]}")

    def shape(self, name: str) -> ModelShape:
        """The text shape of a Gemma 3 size, `4b`, or a tiny one where the run is dry."""
        return TINY if self.dry else GEMMA3[f"gemma-3-{name}"]

    def recipe(self, name: str, model: Path | str, **keys: object) -> Path:
        """Writes a recipe over a model: the emoji rows and a short training, with the keys of the caller on top."""
        value: dict[str, object] = {
            "name": name,
            "task": "emoji",
            "model": str(model),
            "runs_dir": str(self.work / "runs"),
            "data": {"source": str(ROOT / "examples" / "emoji.csv"), "limit": 60},
            "train": {"max_steps": 8, "eval_steps": 8, "batch_size": 8, "max_length": 128, "learning_rate": 1e-3},
            "evaluate": {"limit": 8, "max_new_tokens": 8},
        }
        for key, own in keys.items():
            section = value.get(key)
            value[key] = {**section, **own} if isinstance(section, dict) and isinstance(own, dict) else own
        path = self.work / f"{name}.yaml"
        path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
        return path

    def rows(self, count: int, letters: int) -> Path:
        """A file of conversations of random words, about a token a letter for the tokenizer of the tiny models."""
        draw = random.Random(0)  # noqa: S311
        words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 8))) for _ in range(WORDS)]

        def text(size: int) -> str:
            said = ""
            while len(said) < size:
                said += draw.choice(words) + " "
            return said[:size].strip()

        path = self.work / f"rows-{count}-{letters}.jsonl"
        turns = [("user", letters * 4 // 5), ("assistant", letters // 5)]
        rows = ({"messages": [{"role": role, "content": text(size)} for role, size in turns]} for _ in range(count))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def folder(self, name: str, shape: ModelShape, dtype: torch.dtype = torch.bfloat16) -> Path:
        """A model folder with random weights of a shape, made on the device, and the tokenizer of the tiny models."""
        folder = self.work / name
        random_model(shape, self.device, dtype).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        return folder


def random_model(shape: ModelShape, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Gemma 3's text model in a shape, with random weights, made where it will work."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config_of(shape), dtype=dtype, attn_implementation="sdpa").eval()


def config_of(shape: ModelShape) -> Gemma3TextConfig:
    """The config of a shape, with Gemma's windows: five sliding layers to one that sees all."""
    kinds = ["full_attention" if (layer + 1) % 6 == 0 else "sliding_attention" for layer in range(shape.layers)]
    return tiny_text_config(
        shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        query_pre_attn_scalar=shape.head_size,
        sliding_window=512 if shape.layers < 30 else 1_024,
        layer_types=kinds,
        max_position_embeddings=32_768,
    )


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], object], device: str, times: int, warm: int = 2) -> float:
    """The median time of a call, each waited for."""
    taken = []
    for _ in range(warm + times):
        wait(device)
        began = time.perf_counter()
        call()
        wait(device)
        taken.append(time.perf_counter() - began)
    return median(taken[warm:])


def product_tflops(device: str, dtype: torch.dtype, side: int) -> float:
    """The speed of a square matrix product."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, times=5) / 1e12


def peak_gb(device: str) -> float | None:
    """The most memory of the GPU that tensors held since `forget_peak`."""
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None


def forget_peak(device: str) -> None:
    """Starts a new peak."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
