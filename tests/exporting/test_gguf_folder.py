"""What lies in the folder of a GGUF artifact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporting.gguf_models import write_text_model, write_vision_model
from exporting.tuned_models import random_adapter
from gemtune.errors import ModelError
from gemtune.exporting.formats import FORMATS
from gemtune.exporting.gguf_folder import modelfile, write_gguf_apart
from gemtune.exporting.merge import tuned_adapter

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")


def test_a_text_model_is_one_gguf(tmp_path: Path) -> None:
    merged, folder = write_text_model(tmp_path / "merged"), tmp_path / "gguf"
    FORMATS["gguf-q8_0"].write(merged, folder)
    assert {path.name for path in folder.iterdir()} == {"model-q8_0.gguf", "Modelfile"}
    with FORMATS["gguf-q8_0"].runtime(folder) as runtime:
        assert runtime.tokenize("<start_of_turn>") == [105]


def test_a_vision_model_is_two(tmp_path: Path) -> None:
    merged, folder = write_vision_model(tmp_path / "merged"), tmp_path / "gguf"
    FORMATS["gguf-bf16"].write(merged, folder)
    assert {path.name for path in folder.iterdir()} == {"model-bf16.gguf", "mmproj-f16.gguf", "Modelfile"}
    lines = (folder / "Modelfile").read_text().splitlines()
    assert lines[:2] == ["FROM ./model-bf16.gguf", "FROM ./mmproj-f16.gguf"]


def test_base_and_adapter_lie_side_by_side(tmp_path: Path) -> None:
    base, folder = write_text_model(tmp_path / "base"), tmp_path / "gguf"
    write_gguf_apart(base, tuned_adapter(random_adapter(base, tmp_path / "adapter", token_rows=False), base), folder)
    assert {path.name for path in folder.iterdir()} == {"model-f16.gguf", "adapter.gguf"}
    with FORMATS["gguf-adapter"].runtime(folder) as runtime:
        tuned = runtime.decode([2, 105, 300], 4)
    (folder / "adapter.gguf").unlink()
    with FORMATS["gguf-adapter"].runtime(folder) as runtime:
        assert runtime.decode([2, 105, 300], 4) != tuned
    with pytest.raises(ModelError, match="no adapter was trained beside it"):
        write_gguf_apart(base, None, folder)


def test_ollama_is_told_how_to_stop_and_to_decode(tmp_path: Path) -> None:
    merged = write_text_model(tmp_path / "merged")
    assert modelfile(merged, ["m.gguf"]).splitlines() == [
        "FROM ./m.gguf",
        "REQUIRES 0.33",
        'PARAMETER stop "<end_of_turn>"',
        'PARAMETER stop "<eos>"',
        "PARAMETER temperature 0",
        'LICENSE """Gemma Terms of Use (https://ai.google.dev/gemma/terms)"""',
    ]
    (merged / "generation_config.json").write_text(json.dumps({"temperature": 0.7, "top_p": 0.9, "do_sample": True}))
    assert "PARAMETER temperature 0.7\nPARAMETER top_p 0.9\n" in modelfile(merged, ["m.gguf"])
