"""Importance ratios r = pi_theta / pi_old from log-probabilities.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Ratio(Protocol):
    """Log-ratio of every token, masked and clamped so that its exponential is finite."""

    clamp: float

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """log r_it = log pi_theta(o_it) - log pi_old(o_it), per token (below eq. 1).

    In fp32 at least, 0 where the mask is False, and clamped to +-``clamp`` nats: from a log-ratio of 89 on, fp32 would
    give f'(r) r = 0 * inf = NaN, on masked tokens too. Telemetry counts the tokens that were clamped.
    """

    clamp: float = 20.0

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Shapes: all [N, T]; log-probabilities in nats. Padding may hold anything, NaN included."""
        dtype = torch.promote_types(logp_NT.dtype, torch.float32)
        difference = logp_NT.to(dtype) - anchor_NT.to(dtype)
        return torch.where(mask_NT, difference, 0.0).clamp(-self.clamp, self.clamp)
