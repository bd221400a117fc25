"""fp16 beside fp32: the same replies, and nothing lost where fp16 ends. tests/training/test_precisions.py trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gemtune.evaluation.generate import replies
from gemtune.kernels.fp16 import HOOK, MOST
from gemtune.kernels.patch import restore
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named
from training_jobs import trained

WriteRecipe = Callable[..., Path]
STEPS = {"max_steps": 6, "learning_rate": 1e-3, "eval_steps": 3}


def test_replies_in_fp16_are_those_in_fp32(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(train=STEPS))
    prompts = [job.task.asked(text) for text in ("hello", "pizza", "let's go to the beach")]
    found = []
    for precision in ("fp32", "fp16"):
        again = Job(job.run.root, [f"train.precision={precision}"], say=lambda text: None)
        found.append(replies(model_named(again, "tuned"), again.renderer, prompts, again.recipe.evaluate))
    assert found[0] == found[1]


@torch.no_grad()
def test_a_residual_stream_beyond_fp16_stays_whole(tiny_model: Path) -> None:
    """Gemma 3 270M reaches 103,821 there, and its products stay below a thousand."""
    found = []
    for precision in ("fp32", "fp16"):
        model = install_kernels(load_model(tiny_model, precision=precision))
        layer = model.model.layers[0]
        layer.post_feedforward_layernorm.weight.fill_(0.9 * MOST)  # times a normalised output: some are beyond
        states: list[torch.Tensor] = []
        model.model.layers[1].register_forward_pre_hook(lambda _, inputs, states=states: states.append(inputs[0]))
        logits = model(torch.tensor([[2, 300, 301, 302]])).logits.float()
        found.append((states[0], logits))
    (whole, reference), (half, logits) = found
    assert whole.abs().max() > MOST and half.dtype == torch.float32 and half.isfinite().all()
    assert (half - whole).norm() < 5e-3 * whole.norm()
    assert (logits - reference).norm() < 2e-2 * reference.norm()


def test_restored_it_is_the_model_of_transformers(tiny_model: Path) -> None:
    model = install_kernels(load_model(tiny_model, precision="fp16"))
    assert any(HOOK in vars(module) for module in model.modules())
    restore(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
