"""A model folder of somebody else's: no code of it runs, no weight is made up, and what is spoiled is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE

from command import gemtune
from gemtune.errors import GemtuneError, ModelError
from gemtune.models.adapters import attach_adapters, load_adapter, save_tuned
from gemtune.models.boundary import loading, saving
from gemtune.models.families import config_of, family_of, write_tiny
from gemtune.models.loading import empty_model, load_image_processor, load_model, load_tokenizer
from gemtune.recipe.schema import Lora

Tensors = dict[str, torch.Tensor]
EVIL = "from pathlib import Path\nPath({!r}).write_text('ran')\nclass C: pass\n"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit(folder: Path, name: str = "config.json", **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), encoding="utf-8")


@pytest.mark.parametrize("model_type", ["evil", "gemma3_text"])
@pytest.mark.parametrize("key", ["AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"])
def test_no_code_of_a_model_folder_runs(
    folder: Path,
    write_recipe: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
    key: str,
) -> None:
    """transformers asks whether to run it; here the answer is always yes, as with `yes | gemtune ...`."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    proof = tmp_path / "proof"
    (folder / "evil.py").write_text(EVIL.format(str(proof)), encoding="utf-8")
    names = ["evil.C", None] if key == "AutoTokenizer" else "evil.C"
    edit(folder, model_type=model_type, auto_map={key: names})
    edit(folder, "tokenizer_config.json", auto_map={key: names})
    answer = gemtune(capfd, "check", write_recipe(model=str(folder)))
    assert not proof.exists()
    assert answer.code == (2 if model_type == "evil" else 0), answer.err
    assert "evil" not in answer.err or "model type 'evil' is not supported" in answer.err


@pytest.mark.parametrize("attention", ["org/kernel", "eager", "flash_attention_2"])
def test_a_config_chooses_no_attention(folder: Path, attention: str) -> None:
    edit(folder, _attn_implementation=attention, attn_implementation=attention)
    assert load_model(folder).config._attn_implementation == "sdpa"


def nothing(tensors: Tensors) -> Tensors:
    return {}


def renamed(tensors: Tensors) -> Tensors:
    return {f"x.{name}": tensor for name, tensor in tensors.items()}


def one_less(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name}


def one_renamed(tensors: Tensors) -> Tensors:
    return {name.replace("layers.1.mlp.up_proj", "layers.1.mlp.up"): tensor for name, tensor in tensors.items()}


def whole_numbers(tensors: Tensors) -> Tensors:
    return {name: tensor.to(torch.int8) for name, tensor in tensors.items()}


def complex_numbers(tensors: Tensors) -> Tensors:
    return {name: tensor.to(torch.complex64) for name, tensor in tensors.items()}


def another_shape(tensors: Tensors) -> Tensors:
    return {name: torch.cat([tensor, tensor]) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing, "its files hold 0"),
        (renamed, "are not in its files, first .*, and .* that it does not know, first x."),
        (one_less, "its files hold"),
        (one_renamed, "1 of the model's weights are not in its files, first model.layers.1.mlp.up_proj.weight"),
        (whole_numbers, "is I8; wanted one of F64, F32, F16, BF16"),
        (complex_numbers, "is C64; wanted one of"),
        (another_shape, "cannot be loaded"),
    ],
)
def test_no_weight_is_made_up(folder: Path, spoil: Callable[[Tensors], Tensors], words: str) -> None:
    save_file(spoil(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=words) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_a_head_that_is_not_there_is_missed(folder: Path) -> None:
    edit(folder, tie_word_embeddings=False)
    with pytest.raises(ModelError, match="its config describes"):
        load_model(folder)


def test_tensors_without_a_place_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "v_head.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    said: list[str] = []
    load_model(folder, say=said.append)
    assert said == [f"{folder}: 1 tensors are not used, first v_head.weight"]


def test_check_does_not_take_scaled_weights_for_a_language_model(
    folder: Path, write_recipe: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(folder / "model.safetensors")
    loud = {name: tensor * (300 if "embed" in name else 1) for name, tensor in tensors.items()}
    save_file(loud, folder / "model.safetensors", {"format": "pt"})
    answer = gemtune(capfd, "check", write_recipe(model=str(folder)))
    assert answer.code == 2
    assert "FAIL the base model's loss is that of a language model" in answer.err + answer.out


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.json", "[]", "wanted an object with `model_type`"),
        ("config.json", "{", "cannot be loaded"),
        ("config.json", "[" * 100_000, "cannot be loaded"),
        (
            "config.json",
            '{"model_type": "gemma3_text", "num_hidden_layers": 1000000000}',
            "num_hidden_layers is 10000000",
        ),
        ("config.json", '{"model_type": "gemma3_text", "hidden_size": ' + "9" * 5000 + "}", "config.json"),
        ("config.json", '{"model_type": ["gemma3_text"]}', "is not supported"),
        ("config.json", '{"model_type": "gemma3_text", "quantization_config": {"a": 1}}', "quantised"),
        ("config.json", '{"model_type": "gemma3_text", "hidden_size": "wide"}', "cannot be loaded"),
        ("tokenizer.json", "{}", "its tokenizer: cannot be loaded"),
        ("tokenizer.json", "[" * 100_000, "its tokenizer: cannot be loaded"),
        ("tokenizer_config.json", "[]", "its tokenizer: cannot be loaded"),
        ("tokenizer_config.json", '{"model_max_length": [1]}', "its tokenizer: cannot be loaded"),
    ],
)
def test_a_spoiled_file_is_one_line(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=words) as error:
        (load_tokenizer if name.startswith("tokenizer") else empty_model)(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image_std": [0.5, 0.5]}, "its image processor: cannot be loaded"),
        ({"rescale_factor": {}}, "its image processor: cannot be loaded"),
        ({"resample": 99}, "its image processor: cannot be loaded"),
        ({"size": {"height": 10**9, "width": 56}}, "size.height is 1000000000; gemtune takes sides of up to 10000"),
        ({"size": {"height": 56, "width": -1}}, "size.width is -1"),
        ({"size": {"height": "tall", "width": 56}}, "its image processor: cannot be loaded"),
    ],
)
def test_an_image_processor_that_fails_when_it_is_used_is_one_line(
    tmp_path: Path, values: dict[str, object], words: str
) -> None:
    folder = write_tiny("gemma3-vision", tmp_path / "vision")
    load_image_processor(folder)
    path = folder / "processor_config.json"
    config = json.loads(path.read_text("utf-8"))
    edit(folder, path.name, image_processor={**config["image_processor"], **values})
    with pytest.raises(ModelError, match=words):
        load_image_processor(folder)


@pytest.mark.parametrize(
    "index",
    [[], {}, {"weight_map": []}, *({"weight_map": {"a": name}} for name in ("../model.safetensors", "a" * 300, "\0"))],
)
def test_an_index_names_files_of_the_folder(folder: Path, index: object) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="fetch"):
        load_model(folder)


def test_a_config_that_asks_for_more_memory_than_the_files_hold_gets_none(folder: Path) -> None:
    edit(folder, vocab_size=2**31 - 1)
    assert config_of(folder).vocab_size == 2**31 - 1
    with pytest.raises(ModelError, match="its config describes 103,079,"):
        load_model(folder)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes longer than"),
        ("{{ 'a' * 3000000000 }}", "MiB of memory"),
        ("{{ messages | nothing }}", "No filter named 'nothing'"),
        ("{{ raise_exception('no system') }}", "no system"),
        ("{{ messages[0].role.x.y }}", "has no attribute"),
    ],
)
def test_a_hostile_chat_template_is_a_finding(
    folder: Path,
    write_recipe: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    words: str,
) -> None:
    monkeypatch.setattr("gemtune.rendering.stock_template.SECONDS", 1.0)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    answer = gemtune(capfd, "check", write_recipe(model=str(folder)))
    assert answer.code == 2
    assert "FAIL ids equal the model's own chat template: it cannot be rendered" in answer.out + answer.err
    assert words in answer.out + answer.err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"target_modules": "(([a-z_.0-9]+)+)+Z"}, "target_modules is not as gemtune writes it"),
        ({"exclude_modules": "(([a-z_.0-9]+)+)+Z"}, "exclude_modules"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type"),
        ({"r": "wide"}, "cannot be loaded"),
    ],
)
def test_an_adapter_of_another_form_is_refused(
    folder: Path, tmp_path: Path, values: dict[str, object], words: str
) -> None:
    adapter, family = tmp_path / "adapter", family_of(folder)
    save_tuned(attach_adapters(load_model(folder), Lora(), family, [], 0), folder, family, {}, adapter, {})
    load_adapter(load_model(folder), adapter)
    edit(adapter, "adapter_config.json", **values)
    with pytest.raises(ModelError, match=words):
        load_adapter(load_model(folder), adapter)


def test_nf4_fetches_no_code_from_the_hub(folder: Path, tmp_path: Path) -> None:
    """bitsandbytes asks the package `kernels` for compiled code, where there is one: here one that would be seen."""
    (tmp_path / "kernels.py").write_text(
        "from pathlib import Path\ndef get_kernel(*args, **options): Path('fetched').touch()\n", encoding="utf-8"
    )
    pytest.importorskip("bitsandbytes")
    code = "import sys; from pathlib import Path; from gemtune.models.loading import load_model\n"
    code += "load_model(Path(sys.argv[1]), precision='bf16', quantize='nf4')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "fetched").exists()
    assert "kernels-community" not in done.stderr


def test_a_full_disk_is_one_line_where_a_library_in_rust_writes(tmp_path: Path) -> None:
    """tokenizers raises Exception itself; /dev/full takes a file name and no byte."""
    words = "tokenizer: No space left on device; free some space"
    with pytest.raises(GemtuneError, match=words), saving(tmp_path / "tokenizer"):
        Tokenizer(BPE()).save("/dev/full")
    with pytest.raises(KeyError), saving(tmp_path):
        raise KeyError("(os error)")


def test_an_adapter_names_its_modules_in_one_order(folder: Path, tmp_path: Path) -> None:
    """PEFT keeps them as a set, whose order is another one in every process."""
    family = family_of(folder)
    save_tuned(attach_adapters(load_model(folder), Lora(), family, [], 0), folder, family, {}, tmp_path / "a", {})
    names = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 5 and names == sorted(names)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr)
def test_a_model_that_does_not_fit_is_not_called_damaged(error: Exception, tmp_path: Path) -> None:
    words = r"out of memory .*; close other programs, or give a smaller model"
    with pytest.raises(GemtuneError, match=words), loading(tmp_path):
        raise error
