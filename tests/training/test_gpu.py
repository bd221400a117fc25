"""Training on a CUDA device beside the CPU: precisions, NF4, images, long rows, no memory, resuming, replies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gemtune.evaluation.generate import replies
from gemtune.kernels.attention import documents_attention
from gemtune.models.families import FAMILIES, write_tiny
from gemtune.models.loading import DTYPES
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

WriteRecipe = Callable[..., Path]
PRODUCTS = Path(__file__).parents[2] / "examples" / "products" / "products.csv"
SEEING = {name: family for name, family in FAMILIES.items() if family.vision}
TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}  # relative: the rounding of each type over three tiny layers
STEPS: dict[str, Any] = {"max_steps": 6, "learning_rate": 1e-3, "eval_steps": 6}


def on_gpu(precision: str = "auto") -> tuple[str, str]:
    return "train.device=cuda", f"train.precision={precision}"


def trained(recipe: Path, *overrides: str) -> Job:
    job = Job(recipe, overrides, say=lambda text: None)
    stages.train(job)
    return job


def losses(job: Job) -> list[float]:
    return [line["loss"] for line in job.run.metrics() if "loss" in line]


@pytest.mark.parametrize("precision", TOLERANCE)
def test_losses_on_the_gpu_follow_those_on_the_cpu(write_recipe: WriteRecipe, precision: str) -> None:
    reference = losses(trained(write_recipe("cpu", train=STEPS)))
    found = losses(trained(write_recipe("gpu", train=STEPS), *on_gpu(precision)))
    assert found == pytest.approx(reference, rel=TOLERANCE[precision])


def test_the_precisions_take_turns_in_one_process(write_recipe: WriteRecipe) -> None:
    """Nothing that one training keeps, a mask or a matrix of its type, is met by the next."""
    first = losses(trained(write_recipe("first", train=STEPS), *on_gpu("bf16")))
    losses(trained(write_recipe("between", train=STEPS), *on_gpu("fp32")))
    again = losses(trained(write_recipe("again", train=STEPS), *on_gpu("bf16")))
    assert again == pytest.approx(first, rel=1e-3)


def test_nf4_follows_the_cpu(write_recipe: WriteRecipe) -> None:
    pytest.importorskip("bitsandbytes")
    reference = losses(trained(write_recipe("cpu", train=STEPS, quantize="nf4")))
    found = losses(trained(write_recipe("gpu", train=STEPS, quantize="nf4"), *on_gpu("bf16")))
    assert found == pytest.approx(reference, rel=TOLERANCE["bf16"])


@pytest.mark.parametrize("model_type", SEEING)
def test_a_model_that_sees_trains_as_on_the_cpu_and_answers(
    write_recipe: WriteRecipe, tmp_path: Path, model_type: str
) -> None:
    model = write_tiny(SEEING[model_type].name, tmp_path / "model")
    keys = {"task": "product", "model": str(model), "data": {"source": str(PRODUCTS), "limit": 30}}
    train = {**STEPS, "max_steps": 3, "batch_size": 4, "max_length": 640}
    reference = losses(trained(write_recipe("cpu", **keys, train=train)))
    job = Job(write_recipe("gpu", **keys, train=train, evaluate={"limit": 2}), on_gpu("fp32"), say=lambda text: None)
    assert stages.run(job).is_file()
    assert losses(job) == pytest.approx(reference, rel=TOLERANCE["fp32"])


@pytest.mark.parametrize("trains", ["projector", "tower"])
@pytest.mark.parametrize("model_type", SEEING)
def test_what_sees_is_trained_too(write_recipe: WriteRecipe, tmp_path: Path, model_type: str, trains: str) -> None:
    model = write_tiny(SEEING[model_type].name, tmp_path / "model")
    keys = {"task": "product", "model": str(model), "data": {"source": str(PRODUCTS), "limit": 30}}
    train = {**STEPS, "max_steps": 3, "batch_size": 4, "max_length": 640}
    recipe = write_recipe("seeing", **keys, train=train, vision={"trains": trains})
    found = losses(trained(recipe, *on_gpu()))
    assert len(found) == 3 and all(torch.tensor(found).isfinite())


def test_greedy_replies_are_those_of_the_cpu(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(train=STEPS))
    prompts = [job.task.asked(text) for text in ("hello", "pizza with the dog", "good morning, coffee time and rain")]
    said = []
    for device in ("cpu", "cuda"):
        here = Job(job.run.root, [f"train.device={device}"], say=lambda text: None)
        said.append(
            [
                replies(model_named(here, name), here.renderer, prompts, here.recipe.evaluate)
                for name in ("base", "tuned")
            ]
        )
    assert said[0] == said[1]


class SmallGpu(Job):
    """A device on which a micro-batch of `ROOM` tokens is the largest that can be trained."""

    ROOM = 90

    def base_model(self) -> Any:
        model = super().base_model()

        def full(decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if decoder.training and kwargs["input_ids"].shape[1] > self.ROOM:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

        model.model.register_forward_pre_hook(full, with_kwargs=True)
        return model


def test_a_step_without_memory_is_taken_again_in_halves(write_recipe: WriteRecipe) -> None:
    reference = losses(trained(write_recipe("whole", train=STEPS), *on_gpu("fp32")))
    job = SmallGpu(write_recipe("cut", train=STEPS), on_gpu("fp32"), say=lambda text: None)
    stages.train(job)
    assert losses(job) == pytest.approx(reference, rel=1e-3)
    assert job.run.manifest["decisions"]["micro_tokens"]["value"] <= SmallGpu.ROOM


def test_a_run_that_was_stopped_goes_on_to_the_same_losses(write_recipe: WriteRecipe) -> None:
    train = {**STEPS, "max_steps": 8, "eval_steps": 4}
    whole = losses(trained(write_recipe("whole", train=train), *on_gpu("fp32")))
    recipe = write_recipe("stopped", train=train)

    class Killed(Exception):
        pass

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 6:
            raise Killed

    with pytest.raises(Killed):
        stages.train(Job(recipe, on_gpu("fp32"), say=lambda text: None), stop)
    assert losses(trained(recipe, *on_gpu("fp32"))) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize(("lengths", "head"), [((5, 70, 33, 128, 1), 256), ((2_000, 3, 700), 64), ((40, 9), 12)])
def test_packed_attention_and_its_gradients_follow_the_cpu(
    precision: str, window: int | None, lengths: tuple[int, ...], head: int
) -> None:
    """Rows short and long, heads as large as the flash kernel takes and of a size that it does not."""
    spans = tuple(((2, 18), (20, 30)) if length == 33 else () for length in lengths)
    torch.manual_seed(0)
    tensors = [torch.randn(sum(lengths), heads, head) for heads in (4, 1, 1)]
    d_out = torch.randn(sum(lengths), 4, head)

    def found(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
        query, key, value = (t.to(device, dtype).requires_grad_() for t in tensors)
        out = documents_attention(query, key, value, lengths, head**-0.5, window, spans)
        out.backward(d_out.to(device, dtype))
        return [t.detach().float().cpu() for t in (out, *(t.grad for t in (query, key, value) if t.grad is not None))]

    for ours, reference in zip(found("cuda", DTYPES[precision]), found("cpu", torch.float32), strict=True):
        assert (ours - reference).norm() < 1e-2 * reference.norm()


def test_a_gpu_run_is_evaluated_and_reported(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe("gpu"), on_gpu(), say=lambda text: None)
    page = stages.run(job)
    assert page.is_file()
    assert job.run.manifest["decisions"]["device"]["value"] == "cuda"
    assert all(line["peak_memory_gb"] > 0 for line in job.run.metrics() if "loss" in line)
