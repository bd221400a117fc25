"""Training against plain PyTorch, against itself cut differently, and against kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from gemtune.data.conversation import read_conversations
from gemtune.hardware import instruction_sets
from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named
from gemtune.recipe.schema import Lora
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.token_table import ExampleTable
from gemtune.runs import Run
from gemtune.training import checkpoint as ckpt
from gemtune.training.batching import micro_batch, order
from gemtune.training.loss import labelled_loss

WriteRecipe = Callable[..., Path]


def trained(recipe: Path, *overrides: str) -> Job:
    job = Job(recipe, overrides, say=lambda text: None)
    stages.train(job)
    return job


def adapter(job: Job) -> dict[str, torch.Tensor]:
    return load_file(job.run.adapter / "adapter_model.safetensors")


def full_logits_loss(model: Any, ids: list[int], spans: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """The reference: one row, full logits, PyTorch's own cross-entropy over labels shifted by one."""
    labels = torch.full((len(ids),), -100)
    for start, end in spans:
        labels[start:end] = torch.tensor(ids[start:end])
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    return F.cross_entropy(logits[:-1], labels[1:], reduction="sum")


def test_loss_equals_plain_cross_entropy_over_full_logits(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    table = ExampleTable(job.run.table("train"))
    model = install_kernels(attach_adapters(load_model(tiny_model), Lora(), family_of(tiny_model), [105, 106], 0))
    examples = [table[row] for row in range(24)]
    ours, _ = labelled_loss(model, micro_batch(examples))
    reference = sum(full_logits_loss(model, e.input_ids, e.spans) for e in examples)
    assert ours.item() == pytest.approx(reference.item(), rel=1e-6)


def test_training_equals_a_plain_pytorch_loop(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = trained(
        write_recipe(
            train={
                "schedule": "constant",
                "warmup_ratio": 0.0,
                "learning_rate": 1e-3,
                "early_stopping": None,
                "keep_checkpoints": 99,
            }
        )
    )
    table = ExampleTable(job.run.table("train"))
    model = attach_adapters(
        load_model(tiny_model), job.recipe.lora, family_of(tiny_model), [105, 106], job.recipe.train.seed
    )
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    losses = []
    for rows in order(table.weights, batch_size=8, epochs=1, seed=0):
        examples = [table[int(row)] for row in rows]
        labelled = sum(end - start for e in examples for start, end in e.spans)
        loss = sum(full_logits_loss(model, e.input_ids, e.spans) for e in examples) / labelled
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    logged = [line["loss"] for line in job.run.metrics() if "loss" in line]
    assert logged == pytest.approx(losses, rel=1e-4)
    last = ckpt.checkpoints(job.run)[0][1]
    ours = load_file(last / ckpt.WEIGHTS)
    plain = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name].detach(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("micro_tokens", [1, 150, 100_000], ids=["1 row at a time", "a few", "all at once"])
def test_how_a_batch_is_cut_changes_nothing(write_recipe: WriteRecipe, micro_tokens: int) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    table = ExampleTable(job.run.table("train"))

    def gradients(budget: int) -> dict[str, torch.Tensor]:
        from gemtune.training.batching import cut

        model = install_kernels(attach_adapters(load_model(job.folder), Lora(), job.family, [105, 106], 0)).train()
        rows = list(range(16))
        labelled = int(table.labelled[rows].sum())
        for micro in cut(rows, table.lengths, budget):
            loss, _ = labelled_loss(model, micro_batch([table[row] for row in micro]))
            (loss / labelled).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole, pieces = gradients(10**9), gradients(micro_tokens)
    assert whole.keys() == pieces.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=1e-5, atol=1e-5)


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-c", "from gemtune.cli.app import main; main()", "train", str(recipe)]


def test_resume_after_kill_9_gives_the_same_adapter_bit_for_bit(write_recipe: WriteRecipe) -> None:
    keys: dict[str, Any] = {"train": {"epochs": 6, "eval_steps": 5, "early_stopping": None}, "lora": {"dropout": 0.1}}
    whole = trained(write_recipe("whole", **keys))
    recipe = write_recipe("killed", **keys)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(recipe), env=environment, stderr=subprocess.DEVNULL)
    run = Run(whole.run.root.parent / "killed")
    while process.poll() is None and not run.checkpoint(10).is_dir():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = json.loads(run.metrics_file.read_text().splitlines()[-1])["step"]
    assert run.checkpoint(10).is_dir() and killed_at < whole.run.manifest["training"]["steps"], "killed in mid-training"
    subprocess.run(command(recipe), env=environment, check=True, capture_output=True)
    first, second = ((r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole.run, run))
    assert first == second
    same = ("step", "loss", "grad_norm", "eval_loss", "probe_loss", "learning_rate", "tokens")
    lines = [[{k: line[k] for k in same if k in line} for line in r.metrics()] for r in (whole.run, run)]
    assert lines[0] == lines[1]


def test_a_damaged_checkpoint_is_passed_over(write_recipe: WriteRecipe) -> None:
    keys = {"train": {"epochs": 3, "eval_steps": 5, "early_stopping": None, "keep_checkpoints": 9}}
    whole = trained(write_recipe("whole", **keys))
    job = trained(write_recipe("damaged", **keys))
    for step, folder in ckpt.checkpoints(job.run):
        if step > 10:
            with (folder / ckpt.WEIGHTS).open("r+b") as weights:
                weights.truncate(1000)
    manifest = job.run.manifest
    del manifest["training"]
    job.run.manifest_file.write_text(json.dumps(manifest))
    said: list[str] = []
    stages.train(Job(job.run.root, say=said.append))
    assert any("is damaged" in text and ckpt.WEIGHTS in text for text in said)
    assert any("Resuming from step 10" in text for text in said)
    assert all(torch.equal(a, b) for a, b in zip(adapter(whole).values(), adapter(job).values(), strict=True))


def test_the_adapter_loads_with_plain_peft_and_says_the_same(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = trained(write_recipe(train={"learning_rate": 3e-3, "epochs": 2}))
    stages.evaluate(job)
    replies = [json.loads(line)["reply"] for line in job.run.replies("tuned").read_text().splitlines()]
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, job.run.adapter).eval()
    assert any("trainable_tokens_delta" in name for name in adapter(job))
    tokenizer = load_tokenizer(job.run.adapter)
    rendered = Renderer(tokenizer, job.family)
    conversations = list(read_conversations(job.run.part("test")))
    by_prompt = {c.messages[-2].text: c for c in conversations}
    asked = [by_prompt[json.loads(line)["prompt"]] for line in job.run.replies("tuned").read_text().splitlines()]
    for conversation, reply in zip(asked, replies, strict=True):
        ids = torch.tensor([rendered.prompt_ids(conversation)])
        # The stop tokens come from the generation_config that was saved beside the adapter.
        stops = json.loads((job.run.adapter / "generation_config.json").read_text())["eos_token_id"]
        out = plain.generate(input_ids=ids, max_new_tokens=8, do_sample=False, eos_token_id=stops, pad_token_id=0)
        assert rendered.reply(out[0, ids.shape[1] :].tolist())[0] == reply
    assert tokenizer.chat_template, "a served adapter needs its template"


def test_adapters_of_the_head_are_trained_as_plain_peft_trains_them(
    write_recipe: WriteRecipe, tiny_model: Path
) -> None:
    lora = {"target_modules": ["q_proj", "lm_head"], "token_rows": "none"}
    job = trained(write_recipe(lora=lora, train={"learning_rate": 1e-3}))
    assert job.run.manifest["decisions"]["head"]["value"] == "logits_to_keep"
    ours = model_named(job, "tuned").requires_grad_(True)
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), job.run.adapter)
    stock.requires_grad_(True)
    row = ExampleTable(job.run.table("train"))[0]
    labelled_loss(ours, micro_batch([row]))[0].backward()
    full_logits_loss(stock, row.input_ids, row.spans).backward()
    reference = {name: p.grad for name, p in stock.named_parameters() if ".lora_" in name}
    found = {name: p.grad for name, p in ours.named_parameters() if ".lora_" in name}
    assert any("lm_head.lora_B" in name and weight.any() for name, weight in adapter(job).items())
    assert found.keys() == reference.keys() and any("lm_head" in name for name in found)
    for name, grad in reference.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-3, atol=1e-5)


def test_full_training_moves_every_weight_and_reloads(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(lora="none", train={"learning_rate": 1e-3}))
    before, after = load_model(job.folder).state_dict(), load_model(job.run.full_model).state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still
    metrics = [line["eval_loss"] for line in job.run.metrics() if "eval_loss" in line]
    assert min(metrics[1:]) < metrics[0]


def test_nf4_trains_after_an_evaluation(write_recipe: WriteRecipe) -> None:
    pytest.importorskip("bitsandbytes", reason="the qlora extra is optional")
    job = trained(write_recipe(quantize="nf4", train={"eval_steps": 3, "learning_rate": 3e-3}))
    lines = job.run.metrics()
    assert all(line["grad_norm"] > 0 for line in lines if "loss" in line)
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < losses[0]
    moved = [name for name, value in adapter(job).items() if "lora_B" in name and value.abs().max() > 0]
    assert len(moved) == sum("lora_B" in name for name in adapter(job)), "every adapter got a gradient"


def test_nf4_layers_keep_their_gradient_after_eval(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the qlora extra is optional")
    model = load_model(tiny_model, precision="bf16", quantize="nf4")
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert layers and type(model.lm_head).__name__ == "Linear"
    x = torch.randn(2, layers[0].in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        layers[0].eval()(x)
    x.requires_grad_()
    layers[0].train()(x).sum().backward()
    assert x.grad is not None


def test_the_manifest_has_the_processor_and_the_forwards_that_are_not_gemtunes(write_recipe: WriteRecipe) -> None:
    lora = trained(write_recipe(train={"max_steps": 1})).run.manifest
    every_weight = trained(write_recipe("every_weight", lora="none", train={"max_steps": 1})).run.manifest
    assert lora["device"]["instruction_sets"] == list(instruction_sets())
    assert lora["decisions"]["forwards"]["value"] == []
    assert every_weight["decisions"]["forwards"] == {
        "value": ["Gemma3Attention", "Gemma3DecoderLayer", "Gemma3RMSNorm"],
        "why": "gemtune's forwards are installed with LoRA only",
    }


class Tokenless(Job):
    """A job whose tokenizer must not be loaded."""

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        raise AssertionError("the tokenizer was asked for")


def test_training_on_checked_tokens_needs_no_tokenizer(write_recipe: WriteRecipe) -> None:
    recipe = write_recipe()
    stages.check(Job(recipe))
    assert stages.train(Tokenless(recipe))["steps"]
    assert json.loads((Job(recipe).run.adapter / "generation_config.json").read_text())["eos_token_id"] == [106, 1]
    with pytest.raises(AssertionError, match="tokenizer was asked for"):
        stages.train(Tokenless(recipe, ["name=other"]))


def test_early_stopping_keeps_the_best_checkpoint(write_recipe: WriteRecipe) -> None:
    job = trained(
        write_recipe(
            train={"learning_rate": 0.3, "epochs": 30, "eval_steps": 3, "early_stopping": 2, "schedule": "constant"}
        )
    )
    training = job.run.manifest["training"]
    evals = {line["step"]: line["eval_loss"] for line in job.run.metrics() if "eval_loss" in line and line["step"]}
    assert training["steps"] < training["planned_steps"]
    assert evals[training["best_step"]] == min(evals.values())
    best = load_file(job.run.checkpoint(training["best_step"]) / ckpt.WEIGHTS)
    assert all(torch.equal(value, best[name]) for name, value in adapter(job).items())


def test_the_best_checkpoint_can_be_chosen_by_the_task_metric(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(train={"best_by": "metric", "eval_steps": 6}))
    scores = {line["step"]: line["eval_score"] for line in job.run.metrics() if "eval_score" in line and line["step"]}
    assert job.run.manifest["training"]["best_step"] == max(scores, key=lambda step: (scores[step], -step))


def test_the_lowest_score_is_best_where_lower_is_better(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    task = tmp_path / "rate.py"
    task.write_text(
        "from gemtune.metrics.statistics import Metric\n"
        "from gemtune.metrics.text import cer\n"
        "from gemtune.tasks.emoji import Emoji\n"
        "class Rate(Emoji):\n"
        "    metric = 'cer'\n"
        "    metrics = {'cer': Metric(higher_is_better=False)}\n"
        "    def score(self, conversation, reply):\n"
        "        return {'cer': cer(reply, conversation.answer)}\n"
    )
    job = trained(
        write_recipe(task=f"{task}:Rate", train={"best_by": "metric", "eval_steps": 3, "learning_rate": 0.02})
    )
    scores = {line["step"]: line["eval_score"] for line in job.run.metrics() if "eval_score" in line and line["step"]}
    assert len(set(scores.values())) > 1
    assert job.run.manifest["training"]["best_step"] == min(scores, key=lambda step: (scores[step], step))


class SmallMachine(Job):
    """A machine whose memory takes `ROOM` tokens a micro-batch."""

    ROOM = 90

    def base_model(self) -> Any:
        model = super().base_model()

        def full(decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
            tokens = kwargs["input_ids"].shape[1] if kwargs.get("input_ids") is not None else 0
            if decoder.training and tokens > self.ROOM:
                raise torch.OutOfMemoryError(f"Tried to allocate {tokens} tokens.")

        model.model.register_forward_pre_hook(full, with_kwargs=True)
        return model


def test_out_of_memory_cuts_smaller_and_changes_nothing_else(write_recipe: WriteRecipe) -> None:
    plenty = trained(write_recipe("plenty"))
    said: list[str] = []
    job = SmallMachine(write_recipe("small"), say=said.append)
    stages.train(job)
    assert any("ran out of memory" in line and "Tried to allocate" in line for line in said)
    assert job.run.manifest["decisions"]["micro_tokens"]["value"] <= SmallMachine.ROOM
    pairs = zip(plenty.run.metrics(), job.run.metrics(), strict=True)
    for before, after in pairs:
        assert before["step"] == after["step"] and before.get("tokens") == after.get("tokens")
        if "loss" in before:
            assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)
    assert len(adapter(plenty)) == len(adapter(job))
    for name, value in adapter(plenty).items():
        torch.testing.assert_close(adapter(job)[name], value, rtol=1e-4, atol=1e-5)


def test_a_single_row_that_does_not_fit_says_so(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallMachine, "ROOM", 10)
    with pytest.raises(stages.RunError, match=r"out of memory with a single row of \d+ tokens.*train\.max_length"):
        stages.train(SmallMachine(write_recipe(), say=lambda text: None))


def test_without_val_rows_the_last_step_is_kept(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(split={"val": 0, "test": 0.2}))
    training = job.run.manifest["training"]
    assert training["best_step"] == training["steps"] == training["planned_steps"]
