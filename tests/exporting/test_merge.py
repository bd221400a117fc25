"""Merging tensor by tensor gives what PEFT's own merge gives, under the base's names, whatever the family."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting.tuned_models import PARTS, TunedModel, random_adapter, stock, tuned_model
from gemtune.errors import ModelError
from gemtune.exporting.merge import tuned_adapter
from gemtune.exporting.plain import PlainRuntime
from gemtune.models.families import TINY, write_tiny
from gemtune.models.families.gemma3 import tiny_text_config
from gemtune.models.weights import stored_tensors


@pytest.mark.parametrize(("family", "trains"), PARTS)
def test_it_is_the_merge_of_peft(family: str, trains: str, tmp_path: Path) -> None:
    tuned = tuned_model(family, tmp_path, trains)
    merged = tuned.merge(tmp_path / "merged")
    ours, reference = stock(tmp_path / "merged").state_dict(), tuned.merged_by_peft().state_dict()
    before = stock(tuned.base).state_dict()
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-6)
    changed = sum(not torch.equal(ours[name], before[name]) for name in before)
    assert changed >= merged.adapters > 0 and merged.token_rows == 2
    assert bool(merged.replaced) == (trains != "text")


@pytest.mark.parametrize("family", TINY)
def test_names_shapes_and_types_are_the_bases(family: str, tmp_path: Path) -> None:
    """Of vision models, too, whose names on disk are not those in memory."""
    tuned = tuned_model(family, tmp_path)
    tuned.merge(tmp_path / "merged")
    assert stored_tensors(tmp_path / "merged") == stored_tensors(tuned.base)


def test_a_base_in_bf16_is_rounded_once(tmp_path: Path) -> None:
    base = tmp_path / "base"
    model = stock(write_tiny("gemma3", tmp_path / "fp32"))
    shutil.copytree(tmp_path / "fp32", base)
    model.bfloat16().save_pretrained(base)
    tuned = TunedModel(base, random_adapter(base, tmp_path / "adapter"))
    tuned.merge(tmp_path / "merged")
    ours, reference = stock(tmp_path / "merged").state_dict(), tuned.merged_by_peft().state_dict()
    assert {tensor.dtype for tensor in stored_tensors(tmp_path / "merged").values()} == {"BF16"}
    for name, value in reference.items():
        assert torch.equal(ours[name], value.bfloat16().float()), name


@pytest.mark.parametrize("family", ["gemma3", "gemma3-vision"])
def test_shards_in_and_shards_out_hold_the_same(family: str, tmp_path: Path) -> None:
    tuned = tuned_model(family, tmp_path)
    tuned.merge(tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(tuned.base, cut)
    (cut / "model.safetensors").unlink()
    stock(tuned.base).save_pretrained(cut, max_shard_size="60KB")
    assert len(list(cut.glob("*.safetensors"))) > 2
    TunedModel(cut, tuned.adapter).merge(tmp_path / "merged", shard_bytes=50_000)
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert len(files) > 2 and set(index["weight_map"].values()) == {path.name for path in files}
    assert index["metadata"]["total_size"] == sum(value.nbytes for path in files for value in load_file(path).values())
    reference = stock(tmp_path / "whole").state_dict()
    for name, value in stock(tmp_path / "merged").state_dict().items():
        assert torch.equal(value, reference[name]), name


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_stays_tied_or_of_its_own(tied: bool, tmp_path: Path) -> None:
    """Also where a tied head is stored beside the embedding: the trained rows are in both."""
    base = write_tiny("gemma3", tmp_path / "base")
    path, config = base / "model.safetensors", json.loads((base / "config.json").read_text())
    weights = load_file(path)
    embedding = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding.clone() if tied else torch.randn_like(embedding)
    save_file(weights, path, {"format": "pt"})
    (base / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    tuned = TunedModel(base, random_adapter(base, tmp_path / "adapter"))
    tuned.merge(tmp_path / "merged")
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    is_same = torch.equal(stored["lm_head.weight"], stored["model.embed_tokens.weight"])
    assert is_same == tied
    model, reference = stock(tmp_path / "merged"), tuned.merged_by_peft()
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    ids = torch.tensor([[2, 7, 11, 300, 301]])
    torch.testing.assert_close(model(ids).logits, reference(ids).logits, rtol=1e-4, atol=1e-5)


MERGES = """
import resource, sys
from pathlib import Path
from gemtune.exporting.merge import Tuned, write_merged

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large, folder = map(Path, sys.argv[1:])
for base in (small, large):
    (folder / base.name).mkdir(parents=True)
    write_merged(base, Tuned(base / "adapter.safetensors"), folder / base.name)
    print(peak())
"""


def test_memory_holds_a_tensor_and_not_the_model(tmp_path: Path) -> None:
    """A base of 60 layers takes no more of it than one of 3, but for 64 MB that an allocator may keep."""
    for name, layers in (("small", 3), ("large", 60)):
        base = tmp_path / name
        base.mkdir()
        (base / "config.json").write_text(tiny_text_config(742, num_hidden_layers=3).to_json_string())
        weights = {f"model.layers.{n}.mlp.up_proj.weight": torch.zeros(2048, 1024) for n in range(layers)}  # 8 MB each
        save_file(weights, base / "model.safetensors")
        modules = [f"base_model.model.{weight.removesuffix('.weight')}" for weight in weights]
        adapter = {f"{module}.lora_A.weight": torch.ones(4, 1024) for module in modules}
        adapter |= {f"{module}.lora_B.weight": torch.ones(2048, 4) for module in modules}
        save_file(adapter, base / "adapter.safetensors")
    arguments = [str(tmp_path / name) for name in ("small", "large", "out")]
    done = subprocess.run([sys.executable, "-c", MERGES, *arguments], capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())  # kB
    assert large - small < 64_000 < 60 * 8_000
    merged = load_file(tmp_path / "out" / "large" / "model.safetensors")
    assert len(merged) == 60 and all(bool((value == 4.0).all()) for value in merged.values())


def damaged(adapter: Path, **changes: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def renamed(adapter: Path, before: str, after: str) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name.replace(before, after): value for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("layers.2.", "layers.9.", r"7 of 43 trained tensors fit no tensor .*layers\.9\."),
        ("lora_B", "lora_C", r"42 of 43 trained tensors fit no tensor of the base model"),
        ("q_proj.lora_A", "k_proj.lora_X", "6 of 43 trained tensors fit no tensor"),
        ("model.layers.1.self_attn.q_proj", "layers.0.self_attn.q_proj", "1 of 43 trained tensors fit no tensor"),
    ],
)
def test_an_adapter_that_matches_nothing_is_one_line(before: str, after: str, words: str, tmp_path: Path) -> None:
    tuned = tuned_model("gemma3", tmp_path)
    renamed(tuned.adapter, before, after)
    with pytest.raises(ModelError, match=words):
        tuned.merge(tmp_path / "merged")


def test_an_adapter_of_another_size_is_one_line(tmp_path: Path) -> None:
    tuned = tuned_model("gemma3", tmp_path)
    path = tuned.adapter / "adapter_model.safetensors"
    weights = load_file(path)
    save_file(
        {name: value[:, :-1].contiguous() if "lora_A" in name else value for name, value in weights.items()}, path
    )
    with pytest.raises(ModelError, match=r"21 of 43 trained tensors fit no tensor of the base model"):
        tuned.merge(tmp_path / "merged")


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"r": 0},
        {"r": "4"},
        {"trainable_token_indices": {"embed_tokens": [-1]}},
    ],
)
def test_an_adapter_of_another_kind_is_one_line(changes: dict[str, object], tmp_path: Path) -> None:
    tuned = tuned_model("gemma3", tmp_path)
    damaged(tuned.adapter, **changes)
    with pytest.raises(ModelError, match="is not as gemtune writes it"):
        tuned_adapter(tuned.adapter, tuned.base)


def test_token_rows_beyond_the_embedding_are_one_line(tmp_path: Path) -> None:
    tuned = tuned_model("gemma3", tmp_path)
    damaged(tuned.adapter, trainable_token_indices={"embed_tokens": [7, 100_000]})
    with pytest.raises(ModelError, match=r"1 of 43 .*embed_tokens\.weight"):
        tuned.merge(tmp_path / "merged")


def test_logits_are_those_of_the_adapter(tmp_path: Path) -> None:
    """In fp32 but for the order of sums."""
    tuned = tuned_model("gemma3", tmp_path)
    tuned.merge(tmp_path / "merged")
    ids = [2, 105, 300, 301, 302, 106]
    with PlainRuntime.of(tmp_path / "merged") as merged:
        logits = merged.logits(ids)
    reference = tuned.merged_by_peft()(torch.tensor([ids])).logits[0]
    assert float((logits - reference).abs().max()) < 1e-4
