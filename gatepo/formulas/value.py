"""A gate's value whose gradient is its slope, whatever the value was computed by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class BothSides(Protocol):
    """What is known of a gate: its value f, and slope and value at once."""

    @property
    def value(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Take ratio and tau, and give f."""
        ...

    @property
    def both(self) -> Callable[[Tensor, Tensor], Sequence[Tensor]]:
        """Take ratio and tau, and give f' and f."""
        ...


class ValueWithSlope(torch.autograd.Function):
    """f forward; backward the gradient times f'."""

    @staticmethod
    def forward(ctx: Any, ratio: Tensor, tau: Tensor, gate: BothSides) -> Tensor:
        """Give f at the ratio; ``tau`` broadcasts against it."""
        if not ctx.needs_input_grad[0]:
            return gate.value(ratio, tau)
        slope, value = gate.both(ratio, tau)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Give the gradient of the ratio; there is none of tau and the gate."""
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None
