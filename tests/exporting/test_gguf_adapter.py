"""A LoRA adapter as GGUF: added by llama.cpp to the base, it answers as the merged model."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporting.gguf_models import same_tokens, write_text_model, write_vision_model
from exporting.tuned_models import TunedModel, random_adapter
from gemtune.errors import ModelError
from gemtune.exporting.gguf_adapter import write_adapter
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.merge import tuned_adapter

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

PROMPTS = [[2, 105, *range(300, 340)], [2, *range(600, 660, 3)], [2, 400, 500, 600]]


def test_base_and_adapter_answer_as_the_merged_model(tmp_path: Path) -> None:
    base = write_text_model(tmp_path / "base")
    tuned = TunedModel(base, random_adapter(base, tmp_path / "adapter", token_rows=False))
    tuned.merge(tmp_path / "merged")
    files = [
        write_language_model(folder, tmp_path / f"{folder.name}.gguf", "f32") for folder in (base, tmp_path / "merged")
    ]
    adapter = write_adapter(tuned_adapter(tuned.adapter, base), base, tmp_path / "adapter.gguf")
    with LlamaCpp(files[0], adapter=adapter) as apart, LlamaCpp(files[1]) as merged, LlamaCpp(files[0]) as untuned:
        assert same_tokens(apart, merged, PROMPTS, 24) >= 48
        with pytest.raises(AssertionError, match="token 0"):
            same_tokens(untuned, merged, PROMPTS, 24)


@pytest.mark.parametrize(
    ("trains", "token_rows", "words"),
    [
        ("text", True, "holds 2 trained rows of the embedding"),
        ("tower", False, r"holds (vision_tower|multi_modal_projector)\."),
        ("projector", False, r"holds multi_modal_projector\."),
    ],
)
def test_what_llama_cpp_takes_from_no_adapter_is_one_line(
    trains: str, token_rows: bool, words: str, tmp_path: Path
) -> None:
    base = write_vision_model(tmp_path / "base")
    adapter = random_adapter(base, tmp_path / "adapter", trains, token_rows)
    with pytest.raises(ModelError, match=words + ".*export the whole model, as gguf"):
        write_adapter(tuned_adapter(adapter, base), base, tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()
