"""Memory and time before the run, from the shapes alone; what fits which device."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from gemtune.files import JsonObject
from gemtune.hardware import free_bytes
from gemtune.kernels.cross_entropy import CHUNK, sweeps_over
from gemtune.models.loading import DTYPES
from gemtune.recipe.schema import Recipe
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.order import Order
from gemtune.training.speed import sustained_speed

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FULL = 0.85  # of the free memory: what one row may take of it without being computed in pieces
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
    checkpointed: bool = False,
) -> Estimate:
    """The plan of training `tokens` tokens, of which a share `labelled` is trained on, at `tflops` TFLOP/s."""
    size, lora = 4 if precision == "fp32" else 2, lora_weights(recipe, shape)
    weights, optimizer = weight_bytes(recipe, shape, precision), optimizer_bytes(recipe, shape)
    # Logits and their gradient; without a GPU, probabilities are fp32 in the processor's cache alone, and the logits,
    # too, where a frozen head is fused with its loss.
    is_fused = device == "cpu" and recipe.lora is not None and sweeps_over(DTYPES[precision], shape.hidden)
    a_logit = 0 if is_fused else 2 * size if device == "cpu" else 8 + size
    logits = min(CHUNK, round(micro_tokens * labelled) + 1) * shape.vocab * a_logit
    memory = {
        "framework": FRAMEWORK_GB,
        "weights": weights / 1e9,
        "optimizer": optimizer / 1e9,
        "activations": micro_tokens * activation_bytes(recipe, shape, precision, checkpointed) / 1e9,
        "logits": logits / 1e9,
    }
    blocks, head = 4 * shape.block_weights + 6 * lora, 4 * shape.embedding * labelled
    if not recipe.lora:
        blocks, head = 6 * shape.block_weights, 6 * shape.embedding * labelled
    blocks += 2 * shape.block_weights * checkpointed  # which are computed again in the backward pass
    flops = blocks + head
    seconds = tokens * (blocks + head / (FUSED_HEAD_SPEED if is_fused else HEAD_SPEED)) / (tflops * 1e12)
    return Estimate(memory, seconds, tokens, f"{flops / 1e9:.2f} GFLOP a token at {tflops:.2f} TFLOP/s")


def forecast(
    recipe: Recipe, shape: ModelShape, table: ExampleTable, device: str, precision: str, workers: int = 1
) -> JsonObject:
    """Memory and time of a recipe on this machine, and on the devices of the table: what `gemtune plan` prints.

    Each of several workers holds a model of its own: on a CPU all of them in the same memory, on the same cores.
    """
    settings = recipe.train
    batches = Order(table.weights, settings.batch_size, settings.epochs, seed=0, max_steps=settings.max_steps)
    epochs = len(batches) / max(1e-9, batches.steps_per_epoch)
    tokens = round(epochs * sum(group.weight * group.tokens for group in table.weighted))
    labelled = table.labelled_tokens / max(1, table.tokens)
    longest = table.longest
    on_cpu = workers if device == "cpu" else 1
    room = free_bytes(device) / on_cpu - weight_bytes(recipe, shape, precision)
    checkpointed, _ = choose_checkpointing(recipe, shape, precision, longest, room)
    micro_tokens, _ = choose_micro_tokens(recipe, shape, device, precision, checkpointed, on_cpu)
    speed = sustained_speed(precision, device)
    here = estimate(
        shape,
        recipe,
        device=device,
        precision=precision,
        micro_tokens=max(micro_tokens, longest),
        tokens=tokens,
        labelled=labelled,
        tflops=speed.tflops,
        checkpointed=checkpointed,
    )
    return {
        "model": recipe.model,
        "device": device,
        "precision": precision,
        "checkpointing": checkpointed,
        "workers": workers,
        "memory_gb": here.memory_gb,
        "free_gb": free_bytes(device) / 1e9,
        "steps": len(batches),
        "tokens": tokens,
        "seconds": here.seconds / (workers / on_cpu),
        "why": here.why,
        "caution": speed.caution,
        "elsewhere": elsewhere(recipe, tokens, labelled),
    }


def elsewhere(recipe: Recipe, tokens: int, labelled: float) -> list[JsonObject]:
    """What the recipe needs for every Gemma 3 size on the devices of the table.

    Where it does not fit, blocks are computed twice (`ckpt`); where 16-bit weights do not fit then, they are NF4.
    """
    kinds = dict.fromkeys((recipe.quantize, "nf4")) if recipe.lora else ("none",)
    rows = []
    for model, shape in GEMMA3.items():
        cells = {}
        for device, (memory, tflops) in DEVICES.items():
            cells[device] = "-"
            for quantize, checkpointed in product(kinds, (False, True)):
                plan = estimate(
                    shape,
                    recipe.model_copy(update={"quantize": quantize}),
                    device="cuda",
                    precision="fp16" if device == "T4" else "bf16",
                    micro_tokens=recipe.train.max_length,
                    tokens=tokens,
                    labelled=labelled,
                    tflops=tflops,
                    checkpointed=checkpointed,
                )
                if plan.total_gb < 0.92 * memory:
                    how = f"{' nf4' if quantize == 'nf4' else ''}{' ckpt' if checkpointed else ''}"
                    cells[device] = f"{plan.total_gb:.1f}{how} {plan.seconds / 3600:.2f} h"
                    break
        rows.append({"model": model, "devices": cells})
    return rows


def lora_weights(recipe: Recipe, shape: ModelShape) -> int:
    """How many weights the adapters have; 0 in full training."""
    return shape.layers * sum(recipe.lora.r * (i + o) for i, o in shape.linear) if recipe.lora else 0


def weight_bytes(recipe: Recipe, shape: ModelShape, precision: str) -> float:
    """Bytes of the model as it is loaded."""
    size = 4 if precision == "fp32" else 2
    if recipe.lora is None:  # fp32 masters, and a copy of them in the precision of the products
        copies = 4 + (size if size < 4 else 0)
        return (shape.block_weights + shape.embedding) * copies + shape.vision_weights * size
    block = 0.53 if recipe.quantize == "nf4" else size  # NF4 with double quantisation
    return shape.block_weights * block + (shape.embedding + shape.vision_weights) * size


def optimizer_bytes(recipe: Recipe, shape: ModelShape) -> int:
    """Bytes of a LoRA weight's fp32 master, gradient and two Adam moments; full training's masters are the model."""
    return lora_weights(recipe, shape) * 16 or (shape.block_weights + shape.embedding) * 12


def activation_bytes(recipe: Recipe, shape: ModelShape, precision: str, checkpointed: bool = False) -> float:
    """Bytes autograd keeps for one token: inputs of norms and adapters, attention before and after, gate and up.

    Where blocks are checkpointed it keeps what enters each of them, and those of one block at a time.
    """
    # With fp32 between the products of 16 bits, as in fp16 and in full training, half of it is as wide again.
    size = 4 if precision == "fp32" else 2 if precision == "bf16" and recipe.lora else 3
    q, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    inputs = 6 * shape.hidden + q  # four norms, queries to values, gate and up; the output projection
    attention = (q + 2 * kv) + (q + kv) + (q + 2 * kv)  # as projected, with positions, and padded to each other
    block = inputs + attention + 2 * shape.feed_forward
    kept = shape.layers * shape.hidden + block if checkpointed else shape.layers * block
    return ACTIVATION_SLACK * size * kept


def choose_checkpointing(
    recipe: Recipe, shape: ModelShape, precision: str, longest: int, room: float
) -> tuple[bool, str]:
    """Whether blocks are computed again in the backward pass, to keep less of them: where the longest row needs it.

    `room` are the bytes that are free once the model is loaded.
    """
    left = room - optimizer_bytes(recipe, shape)
    wanted = longest * activation_bytes(recipe, shape, precision)
    why = f"the longest row, {longest} tokens, needs {wanted / 1e9:.2f} GB of activations; {left / 1e9:.1f} GB are free"
    return wanted > FULL * left, why


def choose_micro_tokens(
    recipe: Recipe, shape: ModelShape, device: str, precision: str, checkpointed: bool = False, sharing: int = 1
) -> tuple[int, str]:
    """Tokens a micro-step holds, and why: half the free memory, within what makes matrix products fast.

    A longer row is a micro-step of its own. `sharing` workers that are still to start will share the free memory.
    """
    if recipe.train.micro_tokens:
        return recipe.train.micro_tokens, "the recipe says so"
    # Above, larger matrix products are no faster on that device; with images, four rows keep the threads of a CPU busy.
    most = 16_384 if device == "cuda" else 1_280 if shape.vision_weights else 512
    each = activation_bytes(recipe, shape, precision, checkpointed)
    free = free_bytes(device) / sharing
    fits = int(free / 2 / each)
    why = f"{each / 1e6:.2f} MB of activations a token, {free / 1e9:.1f} GB free; a longer row goes alone"
    return max(1, min(most, fits)), why
