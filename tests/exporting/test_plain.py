"""The reference: plain transformers gives what gemtune's own evaluation gives, with images, too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemtune.data.conversation import read_conversations
from gemtune.errors import ModelError
from gemtune.evaluation.generate import replies
from gemtune.exporting.plain import PlainRuntime
from gemtune.files import write_json
from gemtune.models.families import TINY, write_tiny
from gemtune.models.loading import load_model, load_tokenizer, special_ids
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from models.vision import write_rows


@pytest.mark.parametrize("family", [name for name, family in TINY.items() if family.vision])
def test_it_sees_images_as_evaluation_does(family: str, tmp_path: Path) -> None:
    base, rows = write_tiny(family, tmp_path / "model"), write_rows(tmp_path / "rows", 16)
    recipe = {"task": "messages", "data": str(rows), "model": str(base), "runs_dir": str(tmp_path / "runs")}
    recipe |= {"train": {"precision": "fp32", "device": "cpu", "max_length": 4096}, "evaluate": {"max_new_tokens": 6}}
    path = tmp_path / "t.yaml"
    write_json(path, recipe)
    job = Job(path, say=lambda text: None)
    stages.prepare(job)
    conversations = [row for row in read_conversations(job.run.part("train")) if row.images][:6]
    assert {len(row.images) for row in conversations} > {1}
    write_json(base / "generation_config.json", special_ids(job.tokenizer, job.family))
    with PlainRuntime.of(base) as runtime:
        found = [
            runtime.decode(job.renderer.prompt_ids(row), 6, [job.run.data / path for path in row.image_paths])
            for row in conversations
        ]
    model = install_kernels(load_model(base))
    wanted = replies(model, job.renderer, conversations, job.recipe.evaluate, features_for=job.image_features)
    texts = [job.renderer.reply([choice.token for choice in reply])[0] for reply in found]
    assert texts == [reply.text for reply in wanted] and any(texts)


def test_choices_are_the_greedy_ones_with_their_margins(tmp_path: Path) -> None:
    folder = write_tiny("qwen3", tmp_path / "model")
    ids, model, tokenizer = [2, 105, 300, 301, 302], load_model(folder), load_tokenizer(folder)
    runtime = PlainRuntime(model, tokenizer, stop_ids=[])
    seen = list(ids)
    for choice in runtime.decode(ids, 12):
        with torch.no_grad():
            (first, second), (token, _) = model(torch.tensor([seen])).logits[0, -1].topk(2)
        assert choice.token == int(token) and choice.margin == pytest.approx(float(first - second), abs=1e-4)
        seen.append(choice.token)
    assert len(seen) == 17 and len(set(seen)) > 6
    stop = seen[8]
    stopped = PlainRuntime(model, tokenizer, stop_ids=[stop]).decode(ids, 12)
    assert [choice.token for choice in stopped] == seen[5 : seen.index(stop, 5) + 1]  # the last is the stop token


def test_an_image_for_a_text_model_is_one_line(tiny_model: Path) -> None:
    runtime = PlainRuntime(load_model(tiny_model), load_tokenizer(tiny_model), stop_ids=[])
    with pytest.raises(ModelError, match="the model takes none"):
        runtime.decode([2, 5], 3, [tiny_model / "cat.png"])
