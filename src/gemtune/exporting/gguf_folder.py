"""The artifact `gguf-*`: a GGUF of the model, another of its vision tower, and what Ollama needs to know of them."""

from __future__ import annotations

from pathlib import Path

from gemtune.errors import ModelError
from gemtune.exporting.gguf_adapter import write_adapter
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.merge import Tuned
from gemtune.exporting.mmproj import write_projector
from gemtune.files import read_object, write_text
from gemtune.models.embedded import LICENCE
from gemtune.models.families import config_of, family_of

OLLAMA = "0.33"  # from here on it takes the chat template out of the GGUF
MODEL, PROJECTOR, ADAPTER = "model-{}.gguf", "mmproj-{}.gguf", "adapter.gguf"


def write_gguf_folder(encoding: str, merged: Path, folder: Path) -> None:
    """Writes a merged model as GGUF into a folder, its matrices in an encoding, a key of FILE_TYPES.

    The tower stays F16 at least: it is small, and what it loses is lost for every token of an image.
    """
    model = write_language_model(merged, folder / MODEL.format(encoding), encoding)
    files = [model.name]
    if family_of(merged).vision:
        tower = encoding if encoding == "f32" else "f16"
        files.append(write_projector(merged, folder / PROJECTOR.format(tower), tower).name)
    write_text(folder / "Modelfile", modelfile(merged, files))


def write_gguf_apart(base: Path, tuned: Tuned | None, folder: Path) -> None:
    """Writes the base model in F16 and the adapter: one base serves any number of adapters."""
    if tuned is None:
        raise ModelError(f"{base}: no adapter was trained beside it; export the whole model, as gguf")
    write_adapter(tuned, base, folder / ADAPTER)
    write_language_model(base, folder / MODEL.format("f16"), "f16")
    if family_of(base).vision:
        write_projector(base, folder / PROJECTOR.format("f16"), "f16")


def open_gguf_folder(folder: Path, slots: int = 1, threads: int = 1) -> LlamaCpp:
    """llama.cpp with what `write_gguf_folder` or `write_gguf_apart` wrote; `slots` and `threads` are LlamaCpp's."""
    (model,), projectors = folder.glob(MODEL.format("*")), list(folder.glob(PROJECTOR.format("*")))
    adapter = folder / ADAPTER
    return LlamaCpp(
        model,
        projector=projectors[0] if projectors else None,
        adapter=adapter if adapter.is_file() else None,
        slots=slots,
        threads=threads,
    )


def modelfile(merged: Path, files: list[str]) -> str:
    """How Ollama runs the files: without a TEMPLATE it takes the one in the GGUF, which is the one of the training."""
    decoding = read_object(merged / "generation_config.json")
    lines = [f"FROM ./{name}" for name in files]
    lines.append(f"REQUIRES {OLLAMA}")
    lines += [f'PARAMETER stop "{token}"' for token in family_of(merged).stop_tokens]
    lines.append(f"PARAMETER temperature {decoding.get('temperature', 0)}")
    lines += [f"PARAMETER top_p {decoding['top_p']}"] if "top_p" in decoding else []
    lines += [f'LICENSE """{LICENCE}"""'] if config_of(merged).model_type.startswith("gemma") else []
    return "\n".join(lines) + "\n"
