"""ONNX Runtime against transformers: the same greedy tokens with the same margins, and the same ids of a text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from gemtune.errors import GemtuneError, ModelError
from gemtune.exporting.onnx_folder import write_onnx
from gemtune.exporting.onnx_runtime import OnnxRuntime
from gemtune.exporting.runtime import Choice, Runtime
from gemtune.models.embedded import embedded_model
from gemtune.models.loading import load_tokenizer

TEXTS = [
    "Translate the text to emoji. let's go to the beach",
    "good   morning,\n\n\tcoffee time",
    "<start_of_turn>user\nمرحبا 👨‍👩‍👧<end_of_turn>\n",
]


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(tiny_model, folder, {"model": "fp32"})
    return folder


@pytest.fixture
def runtime(folder: Path) -> OnnxRuntime:
    return OnnxRuntime(folder / "onnx" / "model.onnx")


def greedy(model: Path, prompt: list[int], limit: int) -> list[Choice]:
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    out = plain.generate(
        torch.tensor([prompt]), max_new_tokens=limit, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    best = [scores[0].topk(2) for scores in out.scores]
    return [Choice(int(b.indices[0]), float(b.values[0] - b.values[1])) for b in best]


def same_up_to_near_ties(found: list[Choice], wanted: list[Choice], tie: float) -> bool:
    """Whether tokens are equal to the end, or to a step at which the reference itself was as good as undecided."""
    pairs = zip(found, wanted, strict=False)
    parted = next((w for f, w in pairs if f.token != w.token), None)
    return parted.margin < tie if parted else len(found) == len(wanted)


def test_greedy_tokens_and_margins_are_those_of_transformers(tiny_model: Path, runtime: Runtime) -> None:
    with runtime:
        for text in TEXTS:
            prompt = [2, *runtime.tokenize(text)]
            found, wanted = runtime.decode(prompt, 40), greedy(tiny_model, prompt, 40)
            assert [c.token for c in found] == [c.token for c in wanted]
            assert [c.margin for c in found] == pytest.approx([c.margin for c in wanted], abs=1e-4)


def test_ids_are_those_of_the_trained_model(tiny_model: Path, runtime: Runtime) -> None:
    tokenizer = load_tokenizer(tiny_model)
    for text in TEXTS:
        assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_stop_token_ends_a_reply(runtime: OnnxRuntime) -> None:
    prompt = [2, *runtime.tokenize(TEXTS[0])]
    third = runtime.decode(prompt, 8)[2].token
    runtime.stops = frozenset([third])
    tokens = [choice.token for choice in runtime.decode(prompt, 8)]
    assert tokens[-1] == third and third not in tokens[:-1]


def test_what_the_graph_cannot_take_is_said(runtime: OnnxRuntime, tmp_path: Path) -> None:
    with pytest.raises(GemtuneError, match="2040 tokens and 9 more; the ONNX graph has 2048 positions"):
        runtime.decode([2] * 2040, 9)
    with pytest.raises(GemtuneError, match="no images"):
        runtime.decode([2], 1, [tmp_path / "photo.png"])


def test_a_damaged_graph_is_one_line(folder: Path, tmp_path: Path) -> None:
    write_onnx_copy = tmp_path / "copy"
    write_onnx_copy.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            target = write_onnx_copy / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    graph = write_onnx_copy / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.onnx: cannot be loaded"):
        OnnxRuntime(graph)


REAL = [
    "The capital of France is",
    "To make a good cup of coffee, you",
    "SELECT name FROM singer WHERE",
    "Once upon a time there was a",
    "عاصمة مصر هي",
]


@pytest.mark.journey
def test_real_gemma_in_float32_and_8_bits(tmp_path: Path) -> None:
    """5 prompts of 32 tokens, and one of 1,100 that leaves the window of 512 behind."""
    model = embedded_model()
    write_onnx(model, tmp_path, {"model": "fp32", "model_quantized": "q8"})
    long = [2, *load_tokenizer(model)(" ".join(REAL) * 40, add_special_tokens=False)["input_ids"]][:1100]
    with OnnxRuntime(tmp_path / "onnx" / "model.onnx") as runtime:
        prompts = [[2, *runtime.tokenize(text)] for text in REAL]
        wanted = [runtime.decode(prompt, 32) for prompt in prompts]
        for prompt, found in zip([*prompts, long], [*wanted, runtime.decode(long, 16)], strict=True):
            assert same_up_to_near_ties(found, greedy(model, prompt, len(found)), tie=1e-3)
    with OnnxRuntime(tmp_path / "onnx" / "model_quantized.onnx") as runtime:
        for prompt, reference in zip(prompts, wanted, strict=True):
            assert same_up_to_near_ties(runtime.decode(prompt, 32), reference, tie=1.0)
