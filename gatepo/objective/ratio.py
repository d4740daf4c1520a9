"""Importance ratios r = pi_theta / pi_old from log-probabilities.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from gatepo.settings import Rule, option, section, setting

if TYPE_CHECKING:
    from torch import Tensor


class Ratio(Protocol):
    """A ratio gives the log-ratio of every token, masked and clamped so that its exponential is finite."""

    @property
    def clamp(self) -> float:
        """Give the bound of the absolute log-ratio, nats."""
        ...

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor: ...


@section("ratio")
class Clamped:
    """Every ratio's logarithm is bounded.

    From a log-ratio of 89 on, fp32 would give f'(r) r = 0 * inf = NaN, on masked tokens too. Telemetry counts the
    tokens that were clamped.
    """

    clamp: float = setting(
        "The absolute log-ratio is bounded by this, nats; beyond 88 fp32 overflows.",
        default=20.0,
        rule=Rule("must be in (0, 88]", lambda value: 0 < value <= 88),
    )


@option("ratio", "token")
class TokenRatio(Clamped):
    """log r_it = log pi_theta(o_it) - log pi_old(o_it), per token (below eq. 1).

    In fp32 at least, 0 where the mask is False, and clamped to +-``clamp`` nats.

    >>> logp, anchor = torch.tensor([[-1.0, 99.0]]), torch.tensor([[-1.5, -1.0]])
    >>> TokenRatio()(logp, anchor, torch.ones(1, 2).bool())
    tensor([[ 0.5000, 20.0000]])
    """

    OF_TOKEN: ClassVar[bool] = True  # each token has a ratio of its own, not one that a completion shares

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Shapes: all [N, T]; log-probabilities in nats. Padding may hold anything, NaN included."""
        return _difference(logp_NT, anchor_NT, mask_NT).clamp(-self.clamp, self.clamp)


@section("ratio")
class PooledRatio(Clamped):
    """One ratio for all tokens of a completion, from the log-ratios of its tokens.

    ``BY_LENGTH`` says whether the sum of log-ratios is divided by the completion's length. Without ``OWN_GRADIENT``
    every token's gradient flows through the pooled ratio; with it the pooled value is a constant, and a token's
    gradient flows through its own log-probability, log sg[s_i] + log pi - sg[log pi], so that advantages may differ by
    token.
    """

    BY_LENGTH: ClassVar[bool] = True
    OWN_GRADIENT: ClassVar[bool] = False

    def __call__(self, logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Take arguments of the shapes that :class:`TokenRatio` takes."""
        difference_NT = _difference(logp_NT, anchor_NT, mask_NT)
        pooled_N1 = difference_NT.sum(dim=1, keepdim=True)
        if self.BY_LENGTH:
            pooled_N1 = pooled_N1 / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        if self.OWN_GRADIENT:
            pooled_N1 = pooled_N1.detach() + (difference_NT - difference_NT.detach())
        return torch.where(mask_NT, pooled_N1, 0.0).clamp(-self.clamp, self.clamp)


@option("ratio", "sequence")
class SequenceRatio(PooledRatio):
    """The length-normalised ratio s_i = (pi_theta(o_i) / pi_old(o_i))^(1/|o_i|) (GSPO, arXiv:2507.18071, eq. 5).

    >>> logp, anchor = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.0]])
    >>> SequenceRatio()(logp, anchor, torch.ones(1, 2).bool())
    tensor([[0.2500, 0.2500]])
    """


@option("ratio", "sequence_token")
class SequenceTokenRatio(PooledRatio):
    """The value of :class:`SequenceRatio` with each token's own gradient (GSPO-token, arXiv:2507.18071, eq. 14).

    >>> logp, anchor = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.0]])
    >>> SequenceTokenRatio()(logp, anchor, torch.ones(1, 2).bool())
    tensor([[0.2500, 0.2500]])
    """

    OWN_GRADIENT: ClassVar[bool] = True


@option("ratio", "sequence_product")
class SequenceProductRatio(PooledRatio):
    """The likelihood ratio of the whole completion, with each token's own gradient (VESPO, arXiv:2602.10693).

    >>> logp, anchor = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.0]])
    >>> SequenceProductRatio()(logp, anchor, torch.ones(1, 2).bool())
    tensor([[0.5000, 0.5000]])
    """

    BY_LENGTH: ClassVar[bool] = False
    OWN_GRADIENT: ClassVar[bool] = True


def _difference(logp_NT: Tensor, anchor_NT: Tensor, mask_NT: Tensor) -> Tensor:
    dtype = torch.promote_types(logp_NT.dtype, torch.float32)
    return torch.where(mask_NT, logp_NT.to(dtype) - anchor_NT.to(dtype), 0.0)
