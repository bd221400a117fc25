"""What a model card says, and what it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from gemtune.reporting.model_card import Model, metadata, results, text
from gemtune.runs import Run
from reporting.made_run import HOSTILE, make_run


def model(**more: Any) -> Model:
    given: dict[str, Any] = {
        "repo": "me/emoji",
        "what": "adapter",
        "base": "google/gemma-3-270m",
        "revision": "abc",
        "architecture": "Gemma3ForCausalLM",
        "is_gemma": True,
        "sees": False,
        "messages": [{"role": "user", "content": "Translate 🏖️"}],
    }
    return Model(**{**given, **more})


@pytest.fixture
def made(tmp_path: Path) -> Run:
    return make_run(tmp_path, "prepare", "train", "evaluate")


def test_a_card_has_scores_with_intervals_fit_and_terms(made: Run) -> None:
    said = text(made, model())
    summary = made.summary()
    assert summary
    for words in ("## Intended use", "**Fit: ", "## Terms", "prohibited uses", "modified version", "Translate 🏖️"):
        assert words in said, words
    assert next(iter(results(made))) == summary.metric
    for name, comparison in summary.metrics.items():
        low, high = (f"{side:.3f}".replace("-", "−") for side in (comparison.tuned.low, comparison.tuned.high))
        assert any(line.startswith(f"| {name}") and f"[{low}, {high}]" in line for line in said.splitlines()), name


@pytest.mark.parametrize(
    ("what", "relation", "library"),
    [("adapter", "adapter", "peft"), ("merged", "finetune", "transformers"), ("gguf-q8_0", "quantized", "gguf")],
)
def test_the_head_says_what_became_of_the_base_model(made: Run, what: str, relation: str, library: str) -> None:
    head = metadata(made, model(what=what))
    assert (head["base_model_relation"], head["library_name"]) == (relation, library)
    assert ("PeftModel" in text(made, model(what=what))) == (what == "adapter")


def test_of_a_model_that_is_not_on_the_hub_no_base_is_named(made: Run) -> None:
    head = metadata(made, model(base=None, revision=None, is_gemma=False))
    assert not {"base_model", "base_model_relation", "license"} & head.keys()
    said = text(made, model(base=None, revision=None, is_gemma=False))
    assert "THE BASE MODEL" in said and "Gemma Terms" not in said


def test_a_model_that_sees_is_called_so(made: Run) -> None:
    assert metadata(made, model(sees=True))["pipeline_tag"] == "image-text-to-text"
    assert "AutoModelForImageTextToText" in text(made, model(sees=True))


def test_a_run_that_was_not_evaluated_says_so(made: Run) -> None:
    made.summary_file.unlink()
    assert "It was not evaluated." in text(made, model()) and results(made) == {}


def test_no_path_and_no_row_is_on_a_card(made: Run) -> None:
    said = text(made, model())
    assert str(made.root) not in said and str(made.root.parent) not in said
    for name in ("base", "tuned"):
        for row in made.evaluation().evaluations(name):
            assert row.prompt not in said


def test_what_a_file_of_a_run_says_is_words_on_a_card(tmp_path: Path) -> None:
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text(_hostile(tmp_path), model()))
    assert "<script" not in page and "<img" not in page
    assert [link for link in re.findall(r'href="([^"]*)"', page) if "evil" in link] == []


def _hostile(folder: Path) -> Run:
    return make_run(folder, "prepare", "train", "evaluate", text=HOSTILE)
