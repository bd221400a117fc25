"""A LoRA adapter -> the GGUF that llama.cpp adds to one of the base model while it runs."""

from __future__ import annotations

import re
from pathlib import Path

from gemtune.errors import ModelError
from gemtune.exporting.gguf_file import Fields, Tensor, write_gguf
from gemtune.exporting.gguf_model import architecture_of
from gemtune.exporting.merge import Tuned
from gemtune.exporting.stored_weights import weights_of
from gemtune.models.families import config_of

_WHOLE = "llama.cpp takes adapters of the language model's layers alone: export the whole model, as gguf"
_FACTOR = re.compile(r"layers\.(\d+)\.(.+)\.lora_([AB])\.weight")


def write_adapter(tuned: Tuned, base: Path, path: Path) -> Path:
    """Writes an adapter's factors in F32; ModelError where llama.cpp cannot add what was trained to a base."""
    architecture = architecture_of(config_of(base), base)
    if tuned.token_ids:
        raise ModelError(f"{tuned.file}: holds {len(tuned.token_ids)} trained rows of the embedding; {_WHOLE}")
    tensors = {}
    for name, weight in sorted(weights_of(tuned.file).items()):
        match = _FACTOR.fullmatch(name)
        if match is None or match[2] not in architecture.layer:
            raise ModelError(f"{tuned.file}: holds {name}; {_WHOLE}")
        tensors[f"blk.{match[1]}.{architecture.layer[match[2]]}.weight.lora_{match[3].lower()}"] = Tensor(weight, "f32")
    rank = next(iter(tensors.values())).shape[0]
    fields: Fields = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": tuned.scale * rank}
    return write_gguf(path, architecture.name, fields, tensors)
