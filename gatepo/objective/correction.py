"""Weights against the mismatch of sampler and trainer.

The sampler's kernels and precision differ from the trainer's, so completions come from mu, not quite from pi_old. The
importance weight w = pi_old / mu makes expectations under mu those under pi_old; bounding it trades bias for variance.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Correction(Protocol):
    """The weight of each token's term, without gradient; 1 where nothing is corrected."""

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class NoCorrection:
    """w = 1."""

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor:
        return torch.ones_like(anchor_NT)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedCorrection:
    """w = pi_old / mu, per token or as the product over a completion's tokens, bounded by ``cap``.

    Args:
      level: "token", or "sequence" for one weight per completion.
      bound: "truncate" gives min(w, cap) (TIS); "mask" gives 0 where w > cap and w elsewhere (MIS).
      cap: largest weight, > 0.
    Source: TIS and MIS as in the peers (TRL's ``vllm_importance_sampling_mode``).
    """

    level: str
    bound: str
    cap: float

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Both log-probabilities in nats; the result is 1 outside the mask."""
        log_weight_NT = (anchor_NT - sampler_NT).masked_fill(~mask_NT, 0.0)
        if self.level == "sequence":
            log_weight_NT = log_weight_NT.sum(dim=1, keepdim=True).expand_as(log_weight_NT)
        weight_NT = log_weight_NT.clamp(max=80.0).exp()  # far above any cap, and finite
        within_NT = weight_NT <= self.cap
        bounded_NT = torch.where(within_NT, weight_NT, self.cap if self.bound == "truncate" else 0.0)
        return bounded_NT.masked_fill(~mask_NT, 1.0)
