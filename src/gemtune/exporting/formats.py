"""The table of what a model is exported to: each format with its writer and the runtime that proves it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemtune.errors import GemtuneError, MissingExtra, did_you_mean
from gemtune.exporting.gguf_encodings import EXACT
from gemtune.exporting.runtime import Runtime

if TYPE_CHECKING:
    from gemtune.exporting.merge import Tuned


@dataclass(frozen=True, kw_only=True)
class Format:
    """How an artifact is made of a merged model folder, or of a base and what was trained beside it, and run."""

    what: str
    write: Callable[[Path, Path], None] | None = None  # (merged folder, empty folder of the artifact)
    write_apart: Callable[[Path, Tuned | None, Path], None] | None = None  # (base folder, trained, empty folder)
    runtime: Callable[[Path], Runtime]  # of the artifact's folder
    is_exact: bool  # full precision: judged by its tokens, where a quantised one is judged by the task's score
    modules: tuple[str, ...] = ()  # that writer and runtime import
    extra: str = ""  # of gemtune, which has them
    require: Callable[[], object] = lambda: None  # GemtuneError where something else that it needs is not here


def _write_merged(merged: Path, folder: Path) -> None:
    """The same files: linked, where the disk can, since they are never changed."""
    shutil.copytree(merged, folder, copy_function=_linked, dirs_exist_ok=True)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no links
        shutil.copy2(source, target)


def _plain(folder: Path) -> Runtime:
    from gemtune.exporting.plain import PlainRuntime

    return PlainRuntime.of(folder)


def _write_gguf(encoding: str, merged: Path, folder: Path) -> None:
    from gemtune.exporting.gguf_folder import write_gguf_folder

    write_gguf_folder(encoding, merged, folder)


def _write_gguf_apart(base: Path, tuned: Tuned | None, folder: Path) -> None:
    from gemtune.exporting.gguf_folder import write_gguf_apart

    write_gguf_apart(base, tuned, folder)


def _llama_cpp(folder: Path) -> Runtime:
    from gemtune.exporting.gguf_folder import open_gguf_folder

    return open_gguf_folder(folder)


_GGUF: dict[str, Any] = {"modules": ("gguf", "xllamacpp"), "extra": "gguf"}


def _gguf(encoding: str, what: str) -> Format:
    return Format(
        what=f"{what}, for llama.cpp, Ollama and LM Studio",
        write=partial(_write_gguf, encoding),
        runtime=_llama_cpp,
        is_exact=encoding in EXACT,
        **_GGUF,
    )


def _write_onnx(graphs: Mapping[str, str], merged: Path, folder: Path) -> None:
    from gemtune.exporting.onnx_folder import write_onnx

    write_onnx(merged, folder, graphs)


def _onnx_runtime(graph: str, folder: Path) -> Runtime:
    from gemtune.exporting.onnx_runtime import OnnxRuntime

    return OnnxRuntime(folder / "onnx" / f"{graph}.onnx")


def _onnx(what: str, graphs: Mapping[str, str], is_exact: bool = False) -> Format:
    """The first of the graphs is the one that is verified."""
    return Format(
        what=what,
        write=partial(_write_onnx, graphs),
        runtime=partial(_onnx_runtime, next(iter(graphs))),
        is_exact=is_exact,
        modules=("onnx", "onnxruntime"),
        extra="onnx",
    )


def _require_litert() -> None:
    from gemtune.exporting.litert import python

    python()


def _write_litert(merged: Path, folder: Path) -> None:
    from gemtune.exporting.litert import write_litert

    write_litert(merged, folder)


def _litert(folder: Path) -> Runtime:
    from gemtune.exporting.litert import LiteRt

    return LiteRt(folder)


FORMATS: dict[str, Format] = {
    "merged": Format(
        what="a Hugging Face folder, for transformers, vLLM, MLX and Ollama",
        write=_write_merged,
        runtime=_plain,
        is_exact=True,
    ),
    "gguf-q8_0": _gguf("q8_0", "a GGUF file of 8 bits a weight"),
    "gguf-q6_k": _gguf("q6_k", "a GGUF file of 6 to 8 bits a weight"),
    "gguf-q5_k_m": _gguf("q5_k_m", "a GGUF file of 5 to 8 bits a weight"),
    "gguf-q4_k_m": _gguf("q4_k_m", "a GGUF file of 4 to 8 bits a weight"),
    "gguf-f32": _gguf("f32", "a GGUF file of 32 bits a weight"),
    "gguf-f16": _gguf("f16", "a GGUF file of 16 bits a weight"),
    "gguf-bf16": _gguf("bf16", "a GGUF file of 16 bits a weight, in the range of 32"),
    "gguf-adapter": Format(
        what="the base model and the LoRA adapter as a GGUF file each, for llama.cpp and Ollama",
        write_apart=_write_gguf_apart,
        runtime=_llama_cpp,
        is_exact=True,
        **_GGUF,
    ),
    "onnx-q8": _onnx(
        "8-bit ONNX, for ONNX Runtime and Transformers.js on Node; a quarter of the size of onnx-fp32",
        {"model_quantized": "q8"},
    ),
    "onnx-web": _onnx(
        "8-bit ONNX for Transformers.js in a browser: a graph for the processor, and one for WebGPU",
        {"model_quantized": "q8-wasm", "model_int8": "q8-webgpu"},
    ),
    "onnx-fp32": _onnx("ONNX in full precision: standard operators alone", {"model": "fp32"}, is_exact=True),
    "litert": Format(
        what="a .litertlm file of 8 bits a weight, for LiteRT-LM on phones",
        write=_write_litert,
        runtime=_litert,
        is_exact=False,
        require=_require_litert,
    ),
}
PAGE = "web"  # the model, and then the page that runs it, which needs the run beside the model
# A format's short name -> the one that is meant.
DEFAULTS: dict[str, str] = {"gguf": "gguf-q8_0", "onnx": "onnx-q8", PAGE: "gguf-q8_0"}


def formats_of(names: Iterable[str]) -> list[str]:
    """The full names of formats; GemtuneError for one that is not known, MissingExtra for one that cannot be made here.

    >>> formats_of(["merged", "merged"])
    ['merged']
    """
    known = {**dict(zip(FORMATS, FORMATS, strict=True)), **DEFAULTS}
    full = []
    for name in dict.fromkeys(names):
        if name not in known:
            move = did_you_mean(name, known, f"formats are {', '.join(known)}")
            raise GemtuneError(f"no format {name!r} to export to{move}")
        format_ = FORMATS[known[name]]
        if any(find_spec(module) is None for module in format_.modules):
            raise MissingExtra(f"export {name}", format_.extra)
        format_.require()
        full.append(known[name])
    return list(dict.fromkeys(full))
