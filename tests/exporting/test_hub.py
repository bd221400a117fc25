"""A folder made ready for the Hub; tests/pipeline/test_pushing.py sends it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from gemtune.errors import GemtuneError
from gemtune.exporting.hub import card, hub_files, require_name, staged
from gemtune.files import sha256_of


def test_a_stage_has_the_files_and_the_texts_in_their_place(tmp_path: Path) -> None:
    files = {"model.safetensors": "w", "sub/a.json": "{}", "README.md": "old", "whole.json": "ours", ".lock": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with staged(tmp_path, {"README.md": "new", "NOTICE": "n"}) as stage:
        listed = {file.path: file for file in hub_files(stage)}
        assert listed.keys() == {"model.safetensors", "sub/a.json", "README.md", "NOTICE"}
        assert (stage / "README.md").read_text() == "new"
        assert listed["model.safetensors"].is_large and not listed["sub/a.json"].is_large
        assert listed["sub/a.json"].sha256 == sha256_of(tmp_path / "sub/a.json")
    assert not stage.exists() and (tmp_path / "README.md").read_text() == "old"


def test_a_large_file_of_any_name_goes_through_lfs(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as out:
        out.truncate(10 * 2**20 + 1)
    (file,) = hub_files(tmp_path)
    assert file.is_large and file.size == 10 * 2**20 + 1


@pytest.mark.parametrize("name", ["model", "a/b/c", "a b/c", "-a/b", "a/..", ""])
def test_what_is_no_name_of_a_repository_is_refused(name: str) -> None:
    with pytest.raises(GemtuneError, match="no name of a repository; give a name such as user/model"):
        require_name(name)
    require_name("user/model-1.2_x")


def test_the_head_of_a_card_is_the_hubs() -> None:
    head = {"license": "gemma", "pipeline_tag": "text-generation", "model_name": "m", "base_model_relation": "adapter"}
    text = card({**head, "base_model": "a/b"}, {"f1": 0.5}, "# m\n")
    assert yaml.safe_load(text.split("---\n")[1])["model-index"] == [
        {
            "name": "m",
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": "held-out rows", "type": "private"},
                    "metrics": [{"type": "f1", "value": 0.5, "name": "f1"}],
                }
            ],
        }
    ]
    read = ModelCard(text)
    assert read.data.base_model_relation == "adapter" and read.text.strip() == "# m"
    assert "model-index" not in card(head, {}, "")
