"""Weights against the mismatch of sampler and trainer.

The sampler's kernels and precision differ from the trainer's, so completions come from mu, not quite from pi_old. The
importance weight w = pi_old / mu makes expectations under mu those under pi_old; bounding it trades bias for variance.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from gatepo.settings import POSITIVE, one_of, option, section, setting

if TYPE_CHECKING:
    from torch import Tensor


class Correction(Protocol):
    """A correction gives the weight of each token's term, without gradient; 1 where nothing is corrected."""

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor: ...


@option("correction", "none")
class NoCorrection:
    """w = 1: sampler and trainer are taken to be the same policy, as in the paper.

    >>> NoCorrection()(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2).bool())
    tensor([[1., 1.]])
    """

    CORRECTS_NOTHING: ClassVar[bool] = True

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor:
        return torch.ones_like(anchor_NT)


@section("correction")
class BoundedCorrection:
    """w = pi_old / mu, per token or as the product over a completion's tokens, bounded by ``cap``.

    Source: TIS and MIS as in the peers (TRL's ``vllm_importance_sampling_mode``).
    """

    BEYOND: ClassVar[float | None] = None  # the weight in place of one above the cap; None: the cap itself

    level: str = setting("One weight per token, or per sequence.", default="token", rule=one_of("token", "sequence"))
    cap: float = setting("The largest weight, as in TRL.", default=3.0, rule=POSITIVE)

    def __call__(self, anchor_NT: Tensor, sampler_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Take both log-probabilities in nats; the result is 1 outside the mask."""
        log_weight_NT = (anchor_NT - sampler_NT).masked_fill(~mask_NT, 0.0)
        if self.level == "sequence":
            log_weight_NT = log_weight_NT.sum(dim=1, keepdim=True).expand_as(log_weight_NT)
        weight_NT = log_weight_NT.clamp(max=80.0).exp()  # far above any cap, and finite
        bounded_NT = torch.where(weight_NT <= self.cap, weight_NT, self.cap if self.BEYOND is None else self.BEYOND)
        return bounded_NT.masked_fill(~mask_NT, 1.0)


@option("correction", "truncate")
class Truncate(BoundedCorrection):
    """min(w, cap) (truncated importance sampling, TIS).

    >>> anchor, sampler = torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> Truncate(cap=3.0)(anchor, sampler, torch.ones(1, 2).bool())  # e^0 and e^2, bounded by 3
    tensor([[1., 3.]])
    """


@option("correction", "mask")
class Mask(BoundedCorrection):
    """w up to the cap, and 0 beyond it: what is that far off is left out (masked importance sampling, MIS).

    >>> anchor, sampler = torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)
    >>> Mask(cap=3.0)(anchor, sampler, torch.ones(1, 2).bool())  # e^0, and e^2 is beyond 3
    tensor([[1., 0.]])
    """

    BEYOND: ClassVar[float | None] = 0.0
