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
    layers = [[weight_of(size, out) for size, out in shape.linear] for _ in range(shape.layers)]
    head = weight_of(shape.hidden, shape.vocab)
    most = max(arm.meta["tokens"])
    inputs = {size: torch.randn(most, size).bfloat16() for size, _ in shape.linear}
    arm.ready()
    for tokens, labelled in zip(arm.meta["tokens"], arm.meta["labelled"], strict=True):
        for weight in [weight for layer in layers for weight in layer]:
            there_and_back(inputs[weight.shape[1]][:tokens], weight)
        there_and_back(inputs[shape.hidden][:labelled], head)
        arm.step()
    arm.finish()


def weight_of(size: int, out: int) -> torch.Tensor:
    return torch.randn(out, size).bfloat16()


def there_and_back(x: torch.Tensor, weight: torch.Tensor) -> None:
    out = x @ weight.t()
    out @ weight


if __name__ == "__main__":
    main()
