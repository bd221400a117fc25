"""A config that says rotary positions flat, as transformers before 5 wrote it, gives the artifact of the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporting.gguf_models import same_tokens, write_text_model, write_vision_model
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.onnx_folder import write_onnx
from gemtune.exporting.onnx_runtime import OnnxRuntime
from gemtune.exporting.plain import PlainRuntime
from gemtune.exporting.runtime import Runtime
from gemtune.files import read_json, write_json

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")
pytest.importorskip("onnxruntime", reason="the onnx extra is optional")

FULL, LOCAL = 3_000.0, 700.0  # rotary bases that are nobody's default, and turn within a short prompt
NESTED = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": FULL},
    "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL},
}
# As 4.57 wrote them, and without layer_types as 4.50 did.
SCALING = {"rope_type": "linear", "factor": 4.0}
FLAT = {"rope_theta": FULL, "rope_local_base_freq": LOCAL, "sliding_window_pattern": 6}
SPELLINGS: dict[str, dict[str, Any]] = {
    "4.57": {**FLAT, "rope_scaling": SCALING, "_sliding_window_pattern": 6},
    "4.50": {**FLAT, "rope_scaling": SCALING, "layer_types": None},
}
PROMPTS = [[2, *range(150, 190)], [2, 300, 301, 302]]


def spelled(folder: Path, keys: dict[str, Any]) -> Path:
    """The model with its config's rotary positions said by these keys alone."""
    path = folder / "config.json"
    config = read_json(path)
    text = config.get("text_config", config)
    rotary = {"rope_parameters", "rope_theta", "rope_scaling", "rope_local_base_freq"}
    text = {key: value for key, value in text.items() if key not in rotary} | keys
    text = {key: value for key, value in text.items() if value is not None or key == "rope_scaling"}
    write_json(path, {**config, "text_config": text} if "text_config" in config else text)
    write_json(folder / "generation_config.json", {"eos_token_id": [106, 1]})
    return folder


def write_gguf(model: Path, folder: Path) -> list[Path]:
    return [write_language_model(model, folder / "m.gguf", "f32")]


def write_graph(model: Path, folder: Path) -> list[Path]:
    write_onnx(model, folder, {"model": "fp32"})
    return [folder / "onnx" / "model.onnx", folder / "onnx" / "model.onnx_data"]


WRITERS: dict[str, tuple[Callable[[Path, Path], list[Path]], Callable[[Path], Runtime]]] = {
    "gguf": (write_gguf, LlamaCpp),
    "onnx": (write_graph, OnnxRuntime),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", WRITERS)
def test_the_artifact_of_an_older_config_is_that_of_the_new_one(name: str, spelling: str, tmp_path: Path) -> None:
    write, runtime_of = WRITERS[name]
    model = write_text_model(tmp_path / "model")
    spellings = {"new": {"rope_parameters": NESTED}, "old": SPELLINGS[spelling], "none": {}}
    files = {key: write(spelled(model, keys), tmp_path / key) for key, keys in spellings.items()}
    new, old, none = ([path.read_bytes() for path in paths] for paths in files.values())
    assert old == new and none != new  # so that a writer which reads no spelling is seen, too
    with runtime_of(files["old"][0]) as runtime, PlainRuntime.of(spelled(model, SPELLINGS[spelling])) as reference:
        assert same_tokens(runtime, reference, PROMPTS, 16) >= 16


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_gguf_of_an_older_vision_config_is_that_of_the_new_one(spelling: str, tmp_path: Path) -> None:
    model = write_vision_model(tmp_path / "model")
    (wanted,) = write_gguf(spelled(model, {"rope_parameters": NESTED}), tmp_path / "new")
    (found,) = write_gguf(spelled(model, SPELLINGS[spelling]), tmp_path / "old")
    assert found.read_bytes() == wanted.read_bytes()
