"""A tiny model of a family with an adapter whose every weight is random, and PEFT's own merge of the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from gemtune.exporting.merge import Merged, tuned_adapter, write_merged
from gemtune.exporting.texts import write_texts
from gemtune.models.adapters import attach_adapters, save_tuned
from gemtune.models.families import TINY, family_of, write_tiny
from gemtune.models.loading import load_model, load_tokenizer, special_ids
from gemtune.recipe.schema import Evaluate, Lora


@dataclass(frozen=True)
class TunedModel:
    base: Path
    adapter: Path

    def merge(self, folder: Path, **settings: Any) -> Merged:
        """Merges as `gemtune export` does."""
        folder.mkdir()
        merged = write_merged(self.base, tuned_adapter(self.adapter, self.base), folder, **settings)
        ids = special_ids(load_tokenizer(self.base), family_of(self.base))
        write_texts(self.base, folder, ids, {}, Evaluate())
        return merged

    def merged_by_peft(self) -> Any:
        """The model that PEFT's merge_and_unload makes."""
        return PeftModel.from_pretrained(stock(self.base), self.adapter).merge_and_unload().eval()


def stock(folder: Path) -> Any:
    """The model as stock transformers loads it, in fp32."""
    auto = AutoModelForImageTextToText if family_of(folder).vision else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def tuned_model(name: str, folder: Path, trains: str = "text", token_rows: bool = True) -> TunedModel:
    base, adapter = write_tiny(name, folder / "base"), folder / "adapter"
    return TunedModel(base, random_adapter(base, adapter, trains, token_rows))


def random_adapter(base: Path, adapter: Path, trains: str = "text", token_rows: bool = True) -> Path:
    """An adapter of a model folder, as training saves it, with random weights."""
    family, model = family_of(base), load_model(base)
    tokens = [7, 11] if token_rows else []
    tuned = attach_adapters(model, Lora(r=4, alpha=12), family, tokens, 0, trains if family.vision else "text")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in (p for p in tuned.parameters() if p.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.1)
    ids = special_ids(load_tokenizer(base), family)
    save_tuned(tuned, base, family, ids, adapter, {})
    return adapter


PARTS = [
    (name, part)
    for name, family in TINY.items()
    for part in (("text", "projector", "tower") if family.vision else ("text",))
]
