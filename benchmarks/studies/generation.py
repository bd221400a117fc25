"""How fast does gemtune generate, beside plain transformers, llama.cpp and ONNX Runtime, one reply and sixteen at once?

Gemma 3 270M with an adapter answers prompts of one length, greedily, no reply ending before its last token; the ways
take turns in one process. What is timed is a whole batch, reading the prompts included.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.compare.results import table
from benchmarks.machine import CORES, write_page
from benchmarks.studies.serve import trained
from gemtune.data.conversation import read_conversations
from gemtune.evaluation.generate import generate_ids
from gemtune.exporting.gguf_folder import open_gguf_folder
from gemtune.exporting.onnx_runtime import OnnxRuntime
from gemtune.models.adapters import load_adapter
from gemtune.models.loading import load_model
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import model_named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 32  # of a reply
BATCHES = (1, 16)
FORMATS = ("merged", "gguf-q8_0", "onnx-q8")
Prompts = Sequence[Sequence[int]]
Way = Callable[[Prompts], object]  # answers a batch of prompts
NEVER = -1  # the id of no token
BODY = """\
{threads} threads, prompts of {length} tokens, replies of {tokens}; tokens/s, medians of {repeats} batches in
turn, with the lowest and the highest.

{table}

gemtune and transformers compute in {precision}, llama.cpp and ONNX Runtime with 8 bits a weight, which is half of the
bytes that a token has to read.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="batches of each way and size (5)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"of a reply ({TOKENS})")
    parser.add_argument("--run", type=Path, help="a trained run instead of one of two steps")
    args = parser.parse_args()
    torch.set_num_threads(CORES)
    job = Job(args.run or trained(), say=lambda text: None)
    stages.export(job, FORMATS, limit=1)
    prompts = alike(job, max(BATCHES))
    speeds: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        ways = stack.enter_context(ways_of(job, args.tokens))
        for turn in range(args.repeats + 1):
            for name, way in ways.items():
                for size in BATCHES:
                    start = time.monotonic()
                    way(prompts[:size])
                    speed = size * args.tokens / (time.monotonic() - start)
                    if turn:  # the first makes caches and compiles
                        speeds.setdefault((name, size), []).append(speed)
                        print(f"{name}, {size}: {speed:.1f} tokens/s", flush=True)
    rows = [[name, *(spread(speeds[name, size]) for size in BATCHES)] for name in ways]
    heads = "by | " + " | ".join(f"{size} at once" for size in BATCHES)
    settings = {"threads": CORES, "length": len(prompts[0]), "tokens": args.tokens, "repeats": args.repeats}
    write_page(__file__, "Generating", BODY.format(table=table(heads, rows), precision=job.precision, **settings))


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def alike(job: Job, count: int) -> Prompts:
    """So many prompts of one length, of the train rows: nothing is padded."""
    by_length: dict[int, list[list[int]]] = {}
    for conversation in read_conversations(job.run.part("train")):
        ids = job.renderer.prompt_ids(conversation)
        same = by_length.setdefault(len(ids), [])
        same.append(ids)
        if len(same) == count:
            return same
    raise SystemExit(f"no {count} prompts of one length in {job.run.data}")


@contextlib.contextmanager
def ways_of(job: Job, limit: int) -> Iterator[dict[str, Way]]:
    """The ways, with their models loaded."""
    decoding = job.recipe.evaluate.model_copy(update={"max_new_tokens": limit, "temperature": 0.0})
    load = partial(load_model, device=job.device, precision=job.precision)
    job.renderer.stop_ids = [NEVER]

    def by(model: PreTrainedModel) -> Way:
        """A model in memory by transformers' `generate`, as all three of them are asked."""
        return lambda prompts: generate_ids(model, job.renderer, prompts, decoding, [[]] * len(prompts), None)

    with open_gguf_folder(job.run.artifact("gguf-q8_0"), slots=max(BATCHES), threads=CORES) as llama:

        def one(prompt: Sequence[int]) -> None:
            *_, last = llama.stream(prompt, n_predict=limit, temperature=0.0, ignore_eos=True)
            if last["tokens_predicted"] != limit:
                raise SystemExit(f"llama.cpp made {last['tokens_predicted']} tokens, wanted {limit}")

        def by_llama_cpp(prompts: Prompts) -> object:
            with ThreadPoolExecutor(len(prompts)) as pool:
                return list(pool.map(one, prompts))

        with OnnxRuntime(job.run.artifact("onnx-q8") / "onnx" / "model_quantized.onnx") as onnx:
            yield {
                "`gemtune generate`": by(model_named(job, "tuned")),
                "transformers, PEFT": by(load_adapter(load(job.weights_folder), job.run.adapter)),
                "transformers, `merged`": by(load(job.run.artifact("merged"))),
                "llama.cpp, `gguf-q8_0`": by_llama_cpp,
                "ONNX Runtime, `onnx-q8`": lambda prompts: onnx_batch(onnx, prompts, limit),
            }


def onnx_batch(runtime: OnnxRuntime, prompts: Prompts, limit: int) -> None:
    """Greedy replies side by side, as an application of ONNX Runtime writes that loop."""
    ids, length = np.array(prompts, np.int64), 0
    cache = {name: np.repeat(empty, len(ids), 0) for name, empty in runtime._empty.items()}
    for _ in range(limit):
        total = length + ids.shape[1]
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((len(ids), total), np.int64),
            "position_ids": np.tile(np.arange(length, total, dtype=np.int64), (len(ids), 1)),
        }
        logits, *grown = runtime._session.run(None, inputs | cache)
        cache, length = dict(zip(cache, grown, strict=True)), total
        ids = logits[:, -1].argmax(-1)[:, None]


if __name__ == "__main__":
    main()
