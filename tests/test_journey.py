"""The journey on real Gemma 3 270M: from a CSV to a proven model, through the command line as a user types it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import make_stock_tokenizer
from gemtune.data.conversation import Conversation, Message, read_conversations
from gemtune.models.embedded import embedded_model
from gemtune.models.families import family_of
from gemtune.models.loading import DTYPES, load_tokenizer
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.token_table import ExampleTable
from gemtune.runs import Run
from gemtune.tasks.emoji import SYSTEM

pytestmark = pytest.mark.journey

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def real_model() -> Path:
    return embedded_model()


def gemtune(*arguments: str) -> str:
    command = [sys.executable, "-c", "from gemtune.cli.app import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of the shipped emoji recipe: enough steps to answer in emoji."""
    folder = tmp_path_factory.mktemp("journey")
    overrides = [f"runs_dir={folder}", "train.max_steps=40", "train.eval_steps=20", "evaluate.limit=48"]
    gemtune("run", str(ROOT / "recipes" / "emoji.yaml"), *overrides, "--json")
    return Run.open(folder / "emoji")


def test_the_tokenizer_is_the_stock_one(real_model: Path) -> None:
    stock = json.loads((ROOT / "tests" / "stock_tokenizer.json").read_text(encoding="utf-8"))
    ours = make_stock_tokenizer.facts((real_model / "tokenizer.json").read_text(encoding="utf-8"))
    assert {name: stock[name] for name in ours} == ours


def test_real_ids_equal_the_stock_template(real_model: Path) -> None:
    tokenizer = load_tokenizer(real_model)
    renderer = Renderer(tokenizer, family_of(real_model))
    stock = (files("trl") / "chat_templates" / "gemma3.jinja").read_text(encoding="utf-8")
    rng, words = random.Random(0), make_stock_tokenizer.TEXTS
    words = [text for text in words if "<start_of_turn>" not in text and text.strip()]
    conversations = []
    for _ in range(200):
        texts = [" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(2 * rng.randint(1, 3))]
        turns = [Message.of(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
        head = [Message.of("system", "Be brief.")] if rng.random() < 0.5 else []
        conversations.append(Conversation((*head, *turns), "t", "k", "g", "w"))
    for conversation, example in zip(conversations, renderer.examples(conversations), strict=True):
        messages = [{"role": m.role, "content": m.text} for m in conversation.messages]
        reference = tokenizer.apply_chat_template(messages, chat_template=stock, return_dict=True)["input_ids"]
        assert example.input_ids == list(reference)
        answers = [tokenizer.decode(example.input_ids[a:b]) for a, b in example.spans]
        assert answers == renderer.answers(conversation)


def test_the_real_model_knows_its_language(real_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_model)
    model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32)
    ids = tokenizer("The capital of France is Paris, and the capital of Italy is", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(out[0, -1:]).strip() == "Rome"


def test_no_row_is_lost_from_file_to_summary(run: Run) -> None:
    rows = len((ROOT / "examples" / "emoji.csv").read_text(encoding="utf-8").splitlines()) - 1
    manifest = json.loads(run.data_manifest_file.read_text())
    assert manifest["rows_read"] == rows == sum(manifest["kept"].values()) + sum(manifest["dropped"].values())
    for part, kept in manifest["kept"].items():
        lengths = manifest["lengths"][part]
        assert len(list(read_conversations(run.part(part)))) == kept
        assert len(ExampleTable(run.table(part))) + lengths["over_length"] + lengths["control_token"] == kept
    summary = run.summary()
    assert summary is not None
    assert summary.rows == 48 == len(run.replies("base").read_text().splitlines())


def test_tuned_is_far_better_than_base(run: Run) -> None:
    summary = run.summary()
    assert summary is not None
    for name in ("f1", "valid"):
        gap = summary.metrics[name].difference
        assert gap.low > 0 and gap.p_value < 0.01, f"{name}: {gap}"


def test_the_report_says_what_the_summary_says(run: Run) -> None:
    summary = run.summary()
    assert summary is not None
    page, markdown = (path.read_text(encoding="utf-8") for path in (run.report_page, run.report_markdown))
    tuned = f"{summary.metrics['f1'].tuned.mean:.3f}"
    assert tuned in page and tuned in markdown


def test_the_adapter_says_the_same_through_plain_peft(run: Run, real_model: Path) -> None:
    lines = [json.loads(line) for line in run.replies("tuned").read_text(encoding="utf-8").splitlines()][:12]
    precision = json.loads(run.manifest_file.read_text())["decisions"]["precision"]["value"]
    base = AutoModelForCausalLM.from_pretrained(real_model, dtype=DTYPES[precision])
    model = PeftModel.from_pretrained(base, run.adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.adapter)
    stops = json.loads((run.adapter / "generation_config.json").read_text())["eos_token_id"]
    same = 0
    for line in lines:
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": line["prompt"]},
        ]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=24, do_sample=False, eos_token_id=stops, pad_token_id=0)
        same += tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip() == line["reply"]
    # bf16 rounds differently side by side and alone: a near-tie may flip once in a dozen replies.
    assert same >= 11, f"{same} of 12 replies are the same"


def test_one_prompt_is_answered_in_emoji(run: Run) -> Any:
    import emoji

    assert emoji.emoji_count(gemtune("generate", str(run.root), "good morning, time for coffee")) > 0
