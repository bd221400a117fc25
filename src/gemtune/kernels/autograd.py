"""What autograd hands to the two halves of a function."""

from __future__ import annotations

import torch
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """Holds what forward saves for backward; a subclass names what one function saves besides tensors."""

    saved_tensors: tuple[torch.Tensor, ...]
    needs_input_grad: tuple[bool, ...]
