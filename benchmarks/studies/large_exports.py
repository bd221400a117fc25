"""How much memory does it take to merge and convert models of 4B and 27B, and does it grow with the model?

    python -m benchmarks.studies.large_exports --disk 12

Random weights in the shapes of Gemma 3's language models, with a LoRA adapter on every matrix of every layer; as many
layers as the disk has room for, in two counts, so that growth shows. Each step is a process of its own:
`large_exports merged FOLDER` takes one.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.compare.results import table
from benchmarks.machine import ROOT, write_page
from gemtune.exporting.formats import FORMATS
from gemtune.files import write_json

RANK = 16
WORDS = 262_144
# hidden, intermediate, heads, key heads, head, layers
SHAPES = {"4b": (2560, 10240, 8, 4, 256, 34), "27b": (5376, 21504, 32, 16, 128, 62)}
STEPS = ("merged", "gguf-q8_0", "gguf-q4_k_m", "onnx-q8")
BASE, ADAPTER = "base", "adapter.safetensors"
BODY = """\
Weights in bf16, random; an adapter of rank {rank} on all seven matrices of each layer. Without the vision tower. What
is read is removed once the next step is done. Peak: of the whole process, 0.35 GB of it Python, PyTorch and what they
load.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=STEPS, help="only this one, in this process")
    parser.add_argument("folder", nargs="?", type=Path, help="with base/ or merged/")
    parser.add_argument("--disk", type=float, default=12.0, help="GB of disk that may be taken")
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    args = parser.parse_args()
    if args.step is None:
        rows = [
            row
            for size in args.sizes
            for count in layer_counts(size, args.disk)
            for row in measured(size, count, args.steps)
        ]
        head = "size | layers | weights | step | read GB | written GB | seconds | peak GB"
        write_page(__file__, "Large models", BODY.format(rank=RANK, table=table(head, rows)))
    elif args.folder is None:
        parser.error(f"which folder? For example: {args.step} /tmp/large")
    else:
        began = time.perf_counter()
        take(args.step, args.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"seconds": time.perf_counter() - began, "peak_gb": peak}))


def take(step: str, folder: Path) -> None:
    """One step of an export: the merge, or a conversion of what was merged."""
    from gemtune.exporting.merge import Tuned, write_merged

    out = folder / step
    out.mkdir()
    if step == "merged":
        write_merged(folder / BASE, Tuned(folder / ADAPTER, scale=2.0), out)
        for path in (folder / BASE).glob("*.json"):
            shutil.copyfile(path, out / path.name)
    else:
        write = FORMATS[step].write
        assert write is not None  # noqa: S101  # every format of STEPS is made of a merged model
        write(folder / "merged", out)


def layer_counts(size: str, disk: float) -> list[int]:
    """A third of the layers that fit the disk twice, as base and merged, and all of those.

    >>> layer_counts("27b", 12), layer_counts("4b", 40)
    ([1, 3], [11, 34])
    """
    whole = SHAPES[size][-1]
    sizes = [2 * sum(map(math.prod, weights(size, layers).values())) for layers in (0, 1)]
    fit = min(whole, int((disk * 1e9 / 2 - sizes[0]) // (sizes[1] - sizes[0])))
    return sorted({max(1, fit // 3), max(1, fit)})


def measured(size: str, layers: int, steps: Sequence[str]) -> list[list[str]]:
    """Every step of a model, each in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_base(folder, size, layers)
        for step in steps:
            command = [sys.executable, "-m", "benchmarks.studies.large_exports", step, name]
            out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout  # noqa: S603
            figures = json.loads(out.splitlines()[-1])
            read = folder / (BASE if step == "merged" else "merged")
            count = sum(map(math.prod, weights(size, layers).values()))
            row = [size, f"{layers} of {SHAPES[size][-1]}", f"{count / 1e9:.2f} billion", f"`{step}`"]
            row += [f"{bytes_in(read):.1f}", f"{bytes_in(folder / step):.1f}"]
            rows.append([*row, f"{figures['seconds']:.0f}", f"{figures['peak_gb']:.2f}"])
            print(*rows[-1], flush=True)
            shutil.rmtree(folder / (BASE if step == "merged" else step))
    return rows


def bytes_in(folder: Path) -> float:
    """GB of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def write_base(folder: Path, size: str, layers: int) -> None:
    """A model folder with the embedded model's tokenizer, and an adapter beside it."""
    from transformers import Gemma3TextConfig

    from gemtune.models.embedded import embedded_model

    hidden, intermediate, heads, key_heads, head, _ = SHAPES[size]
    base = folder / BASE
    base.mkdir()
    config = Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        vocab_size=WORDS,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head,
        query_pre_attn_scalar=head,  # what llama.cpp takes for any other count of layers than 27B's
        num_hidden_layers=layers,
        sliding_window=1024,
    )
    config.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(embedded_model(print) / name, base / name)
    write_json(base / "generation_config.json", {"eos_token_id": [106, 1]})
    shapes = weights(size, layers)
    write_random(base / "model.safetensors", shapes)
    write_random(folder / ADAPTER, adapter(shapes))


def weights(size: str, layers: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by their names."""
    hidden, intermediate, heads, key_heads, head, _ = SHAPES[size]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, hidden), "model.norm.weight": (hidden,)}
    norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    for number in range(layers):
        layer = {f"{name}_layernorm": (hidden,) for name in norms}
        layer |= {"self_attn.q_norm": (head,), "self_attn.k_norm": (head,)}
        layer |= {"self_attn.q_proj": (heads * head, hidden), "self_attn.o_proj": (hidden, heads * head)}
        layer |= {f"self_attn.{name}_proj": (key_heads * head, hidden) for name in "kv"}
        layer |= {f"mlp.{name}_proj": (intermediate, hidden) for name in ("gate", "up")}
        layer |= {"mlp.down_proj": (hidden, intermediate)}
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


def adapter(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of a LoRA adapter on every matrix of a model's layers."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and "layers" in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            found |= {f"{module}.lora_A.weight": (RANK, shape[1]), f"{module}.lora_B.weight": (shape[0], RANK)}
    return found


def write_random(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of random bf16 values, the same few million over and over."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    values = np.random.default_rng(0).standard_normal(1 << 21, np.float32) * np.float32(0.02)
    block = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, len(block)):
            file.write(block[: end - begin])


if __name__ == "__main__":
    main()
