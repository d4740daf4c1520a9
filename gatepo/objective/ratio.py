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
        return _difference(logp_NT, anchor_NT, mask_NT).clamp(-self.clamp, self.clamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceRatio:
    """One ratio for all tokens of a completion, from the log-ratios of its tokens.

    Args:
      pool: "mean" gives the length-normalised s_i = (pi_theta(o_i) / pi_old(o_i))^(1/|o_i|) (GSPO, eq. 5), "sum" the
        full likelihood ratio.
      own_gradient: False: every token's gradient flows through the pooled ratio. True: the pooled value is a constant,
        and a token's gradient flows through its own log-probability, log sg[s_i] + log pi - sg[log pi] (GSPO-token,
        eq. 14), so that advantages may differ from token to token.
      clamp: bound of the absolute log-ratio, nats.
    Source: GSPO, arXiv:2507.18071; the sum with own gradients is what VESPO, arXiv:2602.10693, uses.
    """

    pool: str
    own_gradient: bool
    clamp: float = 20.0

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """See :class:`TokenRatio`."""
        difference_NT = _difference(logp_NT, anchor_NT, mask_NT)
        pooled_N1 = difference_NT.sum(dim=1, keepdim=True)
        if self.pool == "mean":
            pooled_N1 = pooled_N1 / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        if self.own_gradient:
            pooled_N1 = pooled_N1.detach() + (difference_NT - difference_NT.detach())
        return torch.where(mask_NT, pooled_N1, 0.0).clamp(-self.clamp, self.clamp)


def _difference(logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
    dtype = torch.promote_types(logp_NT.dtype, torch.float32)
    return torch.where(mask_NT, logp_NT.to(dtype) - anchor_NT.to(dtype), 0.0)
