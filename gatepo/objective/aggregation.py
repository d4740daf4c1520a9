"""How the terms of single tokens become the one number that is optimised.

Denominators are those of the whole update, over every micro-batch and device: they are counted once (:class:`Totals`)
and passed in, so that the loss and its gradient do not depend on how the update is cut up.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Completions and completion tokens of the whole update."""

    completions: int
    tokens: int


class Aggregation(Protocol):
    """This micro-batch's share of the update's aggregate; the shares of all micro-batches sum to the aggregate."""

    def __call__(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class SequenceMean:
    """1/N sum_i 1/|o_i| sum_t term_it (eq. 1, 2), with N the completions of the whole update."""

    def __call__(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        length_N = mask_NT.sum(dim=1).clamp(min=1)
        return ((term_NT * mask_NT).sum(dim=1) / length_N).sum() / totals.completions
