"""Memory and time before the run, from the shapes alone; what fits which device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gemtune.files import JsonObject
from gemtune.hardware import free_bytes
from gemtune.kernels.cross_entropy import CHUNK, sweeps_over
from gemtune.recipe.schema import Recipe
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import order
from gemtune.training.speed import sustained_speed

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FRAMEWORK_GB = 0.55  # Python, torch and transformers, resident on a CPU; a CUDA context is about as much
HEAD_SPEED, FUSED_HEAD_SPEED = 1.4, 2.0  # times a block's, by products and fused with its loss; `make bench` compares
ACTIVATION_SLACK = 1.4  # what autograd and the allocator hold beyond the tensors counted in `activation_bytes`


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model: of its text part, and how many weights see images."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab: int = 262_144
    vision_weights: int = 0  # weights of a vision tower and its projector

    @classmethod
    def of(cls, config: PretrainedConfig) -> ModelShape:
        c = config.get_text_config()
        return cls(
            c.hidden_size,
            c.intermediate_size,
            c.num_hidden_layers,
            c.num_attention_heads,
            c.num_key_value_heads,
            getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
            c.vocab_size,
            _vision_weights(config),
        )

    @property
    def linear(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block."""
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        h, f = self.hidden, self.feed_forward
        return [(h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h)]

    @property
    def block_weights(self) -> int:
        return self.layers * sum(i * o for i, o in self.linear)

    @property
    def embedding(self) -> int:
        return self.vocab * self.hidden


def _vision_weights(config: PretrainedConfig) -> int:
    """About the weights of a tower of plain blocks, as SigLIP and CLIP are; their embeddings are a hundredth more."""
    v = getattr(config, "vision_config", None)
    if v is None:
        return 0
    layers = v.depth if hasattr(v, "depth") else v.num_hidden_layers  # Qwen3-VL has both only since transformers 5.23
    return int(layers * (4 * v.hidden_size**2 + 2 * v.hidden_size * v.intermediate_size))


# config.json of google/gemma-3-*; from 4B on they see, by the same tower.
SIGLIP = 27 * (4 * 1152**2 + 2 * 1152 * 4304)
GEMMA3: dict[str, ModelShape] = {
    "gemma-3-270m": ModelShape(640, 2048, 18, 4, 1, 256),
    "gemma-3-1b": ModelShape(1152, 6912, 26, 4, 1, 256),
    "gemma-3-4b": ModelShape(2560, 10240, 34, 8, 4, 256, vision_weights=SIGLIP),
    "gemma-3-12b": ModelShape(3840, 15360, 48, 16, 8, 256, vision_weights=SIGLIP),
    "gemma-3-27b": ModelShape(5376, 21504, 62, 32, 16, 128, vision_weights=SIGLIP),
}

# Memory in GB and an assumed sustained speed in TFLOP/s (about 40 % of the dense 16-bit peak of the data sheet).
DEVICES: dict[str, tuple[float, float]] = {
    "T4": (16, 26),
    "L4": (24, 48),
    "A100 40": (40, 125),
    "A100 80": (80, 125),
    "H100 80": (80, 395),
}


@dataclass(frozen=True)
class Estimate:
    """What a run needs: GB by what needs it, and seconds."""

    memory_gb: dict[str, float]
    seconds: float
    tokens: int
    why: str

    @property
    def total_gb(self) -> float:
        return sum(self.memory_gb.values())


def estimate(
    shape: ModelShape,
    recipe: Recipe,
    *,
    device: str,
    precision: str,
    micro_tokens: int,
    tokens: int,
    labelled: float,
    tflops: float,
) -> Estimate:
    """The plan of training `tokens` tokens, of which a share `labelled` is trained on, at `tflops` TFLOP/s."""
    size = 4 if precision == "fp32" else 2
    block = 0.53 if recipe.quantize == "nf4" else size  # NF4 with double quantisation: bytes a weight
    weights = shape.block_weights * block + (shape.embedding + shape.vision_weights) * size
    lora = shape.layers * sum(recipe.lora.r * (i + o) for i, o in shape.linear) if recipe.lora else 0
    trained = lora or shape.block_weights + shape.embedding
    # A LoRA weight: fp32 master, gradient and two Adam moments. Full training: the weights are their own masters.
    optimizer = trained * 16 if recipe.lora else trained * 3 * size
    # Logits and their gradient; without a GPU, probabilities are fp32 in the processor's cache alone, and the logits,
    # too, where a frozen head is fused with its loss.
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    is_fused = device == "cpu" and recipe.lora is not None and sweeps_over(dtype, shape.hidden)
    a_logit = 0 if is_fused else 2 * size if device == "cpu" else 8 + size
    logits = min(CHUNK, round(micro_tokens * labelled) + 1) * shape.vocab * a_logit
    memory = {
        "framework": FRAMEWORK_GB,
        "weights": weights / 1e9,
        "optimizer": optimizer / 1e9,
        "activations": micro_tokens * activation_bytes(shape, size) / 1e9,
        "logits": logits / 1e9,
    }
    blocks, head = 4 * shape.block_weights + 6 * lora, 4 * shape.embedding * labelled
    if not recipe.lora:
        blocks, head = 6 * shape.block_weights, 6 * shape.embedding * labelled
    flops = blocks + head
    seconds = tokens * (blocks + head / (FUSED_HEAD_SPEED if is_fused else HEAD_SPEED)) / (tflops * 1e12)
    return Estimate(memory, seconds, tokens, f"{flops / 1e9:.2f} GFLOP a token at {tflops:.2f} TFLOP/s")


def forecast(recipe: Recipe, shape: ModelShape, table: ExampleTable, device: str, precision: str) -> JsonObject:
    """Memory and time of a recipe on this machine, and on the devices of the table: what `gemtune plan` prints."""
    batches = order(table.weights, batch_size=recipe.train.batch_size, epochs=recipe.train.epochs, seed=0)
    batches = batches[: recipe.train.max_steps]
    tokens = int(sum(table.lengths[rows].sum() for rows in batches))
    labelled = float(table.labelled.sum() / max(1, table.lengths.sum()))
    micro_tokens, _ = choose_micro_tokens(recipe, shape, device, precision)
    speed = sustained_speed(precision, device)
    here = estimate(
        shape,
        recipe,
        device=device,
        precision=precision,
        micro_tokens=max(micro_tokens, int(table.lengths.max())),
        tokens=tokens,
        labelled=labelled,
        tflops=speed.tflops,
    )
    return {
        "model": recipe.model,
        "device": device,
        "precision": precision,
        "memory_gb": here.memory_gb,
        "free_gb": free_bytes(device) / 1e9,
        "steps": len(batches),
        "tokens": tokens,
        "seconds": here.seconds,
        "why": here.why,
        "caution": speed.caution,
        "elsewhere": elsewhere(recipe, tokens, labelled),
    }


def elsewhere(recipe: Recipe, tokens: int, labelled: float) -> list[JsonObject]:
    """What the recipe needs for every Gemma 3 size on the devices of the table; NF4 where 16-bit weights do not fit."""
    rows = []
    for model, shape in GEMMA3.items():
        cells = {}
        for device, (memory, tflops) in DEVICES.items():
            cells[device] = "-"
            for quantize in dict.fromkeys((recipe.quantize, "nf4")) if recipe.lora else ("none",):
                quantised = recipe.model_copy(update={"quantize": quantize})
                precision = "fp16" if device == "T4" else "bf16"
                plan = estimate(
                    shape,
                    quantised,
                    device="cuda",
                    precision=precision,
                    micro_tokens=recipe.train.max_length,
                    tokens=tokens,
                    labelled=labelled,
                    tflops=tflops,
                )
                if plan.total_gb < 0.92 * memory:
                    cells[device] = (
                        f"{plan.total_gb:.1f}{' nf4' if quantize == 'nf4' else ''} {plan.seconds / 3600:.2f} h"
                    )
                    break
        rows.append({"model": model, "devices": cells})
    return rows


def activation_bytes(shape: ModelShape, size: int) -> float:
    """Bytes autograd keeps for one token: inputs of norms and adapters, attention before and after, gate and up."""
    q, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    inputs = 6 * shape.hidden + q  # four norms, queries to values, gate and up; the output projection
    attention = (q + 2 * kv) + (q + kv) + (q + 2 * kv)  # as projected, with positions, and padded to each other
    return ACTIVATION_SLACK * shape.layers * size * (inputs + attention + 2 * shape.feed_forward)


def choose_micro_tokens(recipe: Recipe, shape: ModelShape, device: str, precision: str) -> tuple[int, str]:
    """Tokens a micro-step holds, and why: half the free memory, within what makes matrix products fast.

    A longer row is a micro-step of its own.
    """
    if recipe.train.micro_tokens:
        return recipe.train.micro_tokens, "the recipe says so"
    # Above, larger matrix products are no faster on that device; with images, four rows keep the threads of a CPU busy.
    most = 16_384 if device == "cuda" else 1_280 if shape.vision_weights else 512
    each = activation_bytes(shape, 2 if precision == "bf16" else 4)
    free = free_bytes(device)
    fits = int(free / 2 / each)
    why = f"{each / 1e6:.2f} MB of activations a token, {free / 1e9:.1f} GB free; a longer row goes alone"
    return max(1, min(most, fits)), why
