"""The folder that Transformers.js loads: its files, its config, and Transformers.js itself where Node has it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gemtune.errors import ModelError
from gemtune.exporting.onnx_folder import write_onnx
from gemtune.exporting.onnx_runtime import OnnxRuntime
from gemtune.files import read_json, write_json
from gemtune.models.families import write_tiny

ROOT = Path(__file__).parents[2]


def test_the_layout_is_that_of_transformers_js(tiny_model: Path, tmp_path: Path) -> None:
    write_onnx(tiny_model, tmp_path, {"model_quantized": "q8"})
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    graph = "onnx/model_quantized.onnx"
    texts = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert files == texts | {graph, f"{graph}_data"}
    config = read_json(tmp_path / "config.json")
    settings = {"dtype": "q8", "use_external_data_format": {"model_quantized.onnx": 1}}
    assert config["transformers.js_config"] == settings
    assert config["max_position_embeddings"] == 2048


def test_a_browser_finds_the_graph_for_its_device(tiny_model: Path, tmp_path: Path) -> None:
    write_onnx(tiny_model, tmp_path, {"model_quantized": "q8-wasm", "model_int8": "q8-webgpu"})
    settings = read_json(tmp_path / "config.json")["transformers.js_config"]
    assert settings["dtype"] == "q8" and settings["device_config"] == {"webgpu": {"dtype": "int8"}}
    assert settings["use_external_data_format"] == {"model_quantized.onnx": 1, "model_int8.onnx": 1}
    assert all((tmp_path / "onnx" / f"{name}_data").is_file() for name in settings["use_external_data_format"])


def test_a_chat_template_comes_along(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    write_onnx(model, tmp_path / "onnx", {"model": "fp32"})
    assert (tmp_path / "onnx" / "chat_template.jinja").read_text(encoding="utf-8") == "{{ messages }}"


@pytest.mark.parametrize("family", ["qwen3", "gemma3-vision"])
def test_another_architecture_is_refused(tmp_path: Path, family: str) -> None:
    with pytest.raises(ModelError, match="ONNX is written for gemma3_text alone: export gguf, or merged"):
        write_onnx(write_tiny(family, tmp_path / family), tmp_path / "onnx", {"model": "fp32"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("final_logit_softcapping", 30.0), ("use_bidirectional_attention", True), ("hidden_activation", "silu")],
)
def test_what_the_graph_lacks_is_refused(tiny_model: Path, tmp_path: Path, key: str, value: object) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    write_json(model / "config.json", read_json(model / "config.json") | {key: value})
    with pytest.raises(ModelError, match=f"{key} is {value}; the ONNX graph knows"):
        write_onnx(model, tmp_path / "onnx", {"model": "fp32"})


@pytest.mark.parametrize(("graph", "form"), [("model", "fp32"), ("model_quantized", "q8-wasm")])
def test_transformers_js_answers_token_for_token(tiny_model: Path, tmp_path: Path, graph: str, form: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    if subprocess.run([node, "-e", "require.resolve('@huggingface/transformers')"], capture_output=True).returncode:
        pytest.skip("node has no @huggingface/transformers: `npm i`, and NODE_PATH names its node_modules")
    write_onnx(tiny_model, tmp_path, {graph: form})
    texts = ["good   morning,\n\n\tcoffee time", "<start_of_turn>user\nمرحبا 👨‍👩‍👧<end_of_turn>\n"]
    script = ROOT / "tests" / "transformers_js.cjs"
    done = subprocess.run(
        [node, script, tmp_path, "40"], input=json.dumps(texts), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with OnnxRuntime(tmp_path / "onnx" / f"{graph}.onnx") as runtime:
        for text, answer in zip(texts, json.loads(done.stdout), strict=True):
            prompt = [2, *runtime.tokenize(text)]
            assert answer == {"prompt": prompt, "reply": [choice.token for choice in runtime.decode(prompt, 40)]}
