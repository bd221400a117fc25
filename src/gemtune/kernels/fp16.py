"""fp16 where bf16 is not there: products in fp16, and what is added up between them in fp32.

Gemma's residual stream reaches 103,821 at 270M, and fp16 ends at 65,504. So embeddings leave as fp32, norms compute and
return fp32, and only what a linear layer takes is rounded. What is beyond the range then becomes its largest number.
"""

from __future__ import annotations

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

HOOK = "fp16_hook"  # the attribute of a module that holds the handle of its hook
MOST = torch.finfo(torch.float16).max


def rounded(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x in another type; no infinity in fp16.

    >>> rounded(torch.tensor([1e9, -2.0]), torch.float16).tolist()
    [65504.0, -2.0]
    """
    return x.clamp(-MOST, MOST).to(dtype) if dtype == torch.float16 else x.to(dtype)


def install_fp16(model: nn.Module, tower: str | None = None) -> None:
    """Hooks for all of a model in fp16 but its vision tower, a path, which computes in fp16 throughout."""
    for name, module in model.named_modules():
        if HOOK in vars(module) or (tower and f".{tower}." in f".{name}."):
            continue
        if isinstance(module, nn.Embedding):
            vars(module)[HOOK] = module.register_forward_hook(lambda _, inputs, out: out.float())
        elif name.endswith("layernorm"):
            vars(module)[HOOK] = module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))
        elif isinstance(module, nn.Linear | LoraLayer):
            vars(module)[HOOK] = module.register_forward_pre_hook(
                lambda _, inputs: (rounded(inputs[0], torch.float16), *inputs[1:])
            )


def remove_fp16(module: nn.Module) -> None:
    """Takes a module's hook out again."""
    if hook := vars(module).pop(HOOK, None):
        hook.remove()
