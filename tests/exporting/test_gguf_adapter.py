"""A LoRA adapter as GGUF: added by llama.cpp to the base, it answers as the merged model."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporting.gguf_models import agreed, write_text_model
from exporting.tuned_models import TunedModel, random_adapter, tuned_model
from gemtune.errors import ModelError
from gemtune.exporting.gguf_adapter import write_adapter
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

PROMPTS = [[2, 105, *range(300, 340)], [2, *range(700, 760, 3)], [2, 400, 500, 600]]


def test_base_and_adapter_answer_as_the_merged_model(tmp_path: Path) -> None:
    base = write_text_model(tmp_path / "base")
    tuned = TunedModel(base, random_adapter(base, tmp_path / "adapter", token_rows=False))
    tuned.merge(tmp_path / "merged")
    files = [
        write_language_model(folder, tmp_path / f"{folder.name}.gguf", "f32") for folder in (base, tmp_path / "merged")
    ]
    adapter = write_adapter(tuned.adapter, base, tmp_path / "adapter.gguf")
    with LlamaCpp(files[0], adapter=adapter) as apart, LlamaCpp(files[1]) as merged, LlamaCpp(files[0]) as untuned:
        same, count = agreed(apart, merged, PROMPTS, 24)
        assert same == count
        assert agreed(untuned, merged, PROMPTS, 24)[0] < count / 2, "the adapter does something"


@pytest.mark.parametrize(
    ("name", "trains", "token_rows", "words"),
    [
        ("gemma3-vision", "text", True, "holds 2 trained rows of the embedding"),
        ("gemma3-vision", "tower", False, r"holds \w+_tower"),
        ("gemma3-vision", "projector", False, r"holds multi_modal_projector"),
    ],
)
def test_what_llama_cpp_takes_from_no_adapter_is_one_line(
    name: str, trains: str, token_rows: bool, words: str, tmp_path: Path
) -> None:
    tuned = tuned_model(name, tmp_path, trains, token_rows)
    with pytest.raises(ModelError, match=words + ".*export the whole model, as gguf"):
        write_adapter(tuned.adapter, tuned.base, tmp_path / "adapter.gguf")
