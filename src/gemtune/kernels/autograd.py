"""What autograd hands to the two halves of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """Holds what forward saves for backward; a subclass names what one function saves besides tensors."""

    saved_tensors: tuple[torch.Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    if TYPE_CHECKING:

        def save_for_backward(self, *tensors: torch.Tensor | None) -> None: ...
