"""The limit: nothing but the matrix products that a LoRA step cannot do without, by plain PyTorch in bf16.

Of every step: its tokens through the frozen weights of each layer, forward and back, and its labelled tokens through
the head, forward and back. No adapters, no attention, no elementwise work, no optimizer.
"""

import torch
from transformers import AutoConfig

from arms.common import Arm
from gemtune.plan import Shape


def main() -> None:
    arm = Arm()
    shape = Shape.of(AutoConfig.from_pretrained(arm.meta["model"]))
    layers = [[_weight(size, out) for size, out in shape.linear] for _ in range(shape.layers)]
    head = _weight(shape.hidden, shape.vocab)
    arm.ready()
    for tokens, labelled in zip(arm.meta["tokens"], arm.meta["labelled"], strict=True):
        for weight in [weight for layer in layers for weight in layer]:
            _there_and_back(tokens, weight)
        _there_and_back(labelled, head)
        arm.step()
    arm.finish()


def _weight(size: int, out: int) -> torch.Tensor:
    return torch.randn(out, size).bfloat16()


def _there_and_back(rows: int, weight: torch.Tensor) -> None:
    out = torch.ones(rows, weight.shape[1], dtype=weight.dtype) @ weight.t()
    out @ weight


if __name__ == "__main__":
    main()
