"""How the values of single tokens become the one number that is optimised.

Denominators are those of the whole update, over every micro-batch and device: they are counted once (:class:`Totals`)
and passed in, so that the loss and its gradient do not depend on how the update is cut up.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import torch

from gatepo.settings import at_least, option, setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Completions and completion tokens of the whole update.

    >>> Totals(completions=128, tokens=5000)
    Totals(completions=128, tokens=5000)
    """

    completions: int
    tokens: int


class Aggregation(Protocol):
    """An aggregation gives a micro-batch's share of the update's aggregate; the shares of all micro-batches add up.

    One that states ``NEEDS_VALUES_ABOVE_ZERO = True`` is used only with gates whose values are above 0, and one that
    states ``NEEDS_RATIO_OF_TOKEN = True`` only with a ratio whose ``OF_TOKEN`` is True.
    It is taken to be linear in the values, so that a token's coefficient of A grad log pi is r f'(r), unless it is
    :class:`NotLinear` and gives the factor of it by ``coefficient_factor``.
    """

    def __call__(self, value_NT: Tensor, weight_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """Aggregate gate values f(r) with the weights A (times the correction's, where there is one)."""
        ...

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """Aggregate terms that are simply added, such as a KL penalty."""
        ...


@runtime_checkable
class NotLinear(Protocol):
    """An aggregation that is not linear in the values f(r) declares what that makes of the coefficients r f'(r)."""

    def coefficient_factor(self, value_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Give what each token's r f'(r) is multiplied by in the coefficient of A grad log pi."""
        ...


class _Linear:
    """An aggregate of products: the value enters linearly."""

    __slots__ = ()

    def __call__(self, value_NT: Tensor, weight_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        return self.mean(value_NT * weight_NT, mask_NT, totals)

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        raise NotImplementedError


@option("aggregation", "sequence_mean")
class SequenceMean(_Linear):
    """1/N sum_i 1/|o_i| sum_t term_it (eq. 1, 2), with N the completions of the whole update.

    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> SequenceMean().mean(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), mask, Totals(completions=2, tokens=3))
    tensor(3.5000)
    """

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        length_N = mask_NT.sum(dim=1).clamp(min=1)
        return ((term_NT * mask_NT).sum(dim=1) / length_N).sum() / totals.completions


@option("aggregation", "token_mean")
class TokenMean(_Linear):
    """1/sum_i |o_i| sum_i sum_t term_it: every token of the update counts the same (DAPO, arXiv:2503.14476, eq. 12).

    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> TokenMean().mean(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), mask, Totals(completions=2, tokens=3))
    tensor(3.)
    """

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        return (term_NT * mask_NT).sum() / max(totals.tokens, 1)


@option("aggregation", "constant")
class Constant(_Linear):
    """1/N sum_i 1/L sum_t term_it with one constant L in tokens, the longest completion allowed.

    A long completion's tokens then weigh as much as a short one's (Dr. GRPO, arXiv:2503.20783, section 3).

    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> Constant(length=9).mean(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), mask, Totals(completions=2, tokens=3))
    tensor(0.5000)
    """

    length: int = setting(
        "Each completion's sum is divided by this, tokens.",
        rule=at_least(1),
        remedy="the longest completion allowed is usual",
        follows="sampling.max_completion_length",
    )

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        return (term_NT * mask_NT).sum() / (self.length * totals.completions)


@option("aggregation", "sequence_sum")
class SequenceSum(_Linear):
    """1/N sum_i sum_t term_it: a completion weighs as much as it is long (LUSPO, arXiv:2602.05261).

    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> SequenceSum().mean(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), mask, Totals(completions=2, tokens=3))
    tensor(4.5000)
    """

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        return (term_NT * mask_NT).sum() / totals.completions


@option("aggregation", "geometric_mean")
class GeometricMean:
    """1/N sum_i w_i (prod_t f(r_it))^(1/|o_i|): the geometric instead of the arithmetic mean over tokens.

    One outlying token moves it less. Values must be > 0, and a completion's weights equal; their mean is taken. The
    coefficient of A grad log pi is not r f'(r) but that over f(r), times the completion's geometric mean of f: with a
    clip every token within the bounds has the same.

    Source: GMPO, arXiv:2507.20673, eq. 4.

    >>> mask, totals = torch.ones(1, 2).bool(), Totals(completions=1, tokens=2)
    >>> GeometricMean()(torch.tensor([[1.0, 4.0]]), torch.ones(1, 2), mask, totals)
    tensor(2.)
    """

    NEEDS_VALUES_ABOVE_ZERO: ClassVar[bool] = True
    NEEDS_RATIO_OF_TOKEN: ClassVar[bool] = True

    def __call__(self, value_NT: Tensor, weight_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        weight_N = (weight_NT * mask_NT).sum(dim=1) / mask_NT.sum(dim=1).clamp(min=1)
        return (weight_N * self._mean_value(value_NT, mask_NT)).sum() / totals.completions

    def coefficient_factor(self, value_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """See :class:`NotLinear`."""
        return self._mean_value(value_NT, mask_NT)[:, None] / torch.where(mask_NT, value_NT, 1.0)

    def _mean_value(self, value_NT: Tensor, mask_NT: Tensor) -> Tensor:
        log_NT = torch.log(torch.where(mask_NT, value_NT, 1.0))
        return torch.exp(log_NT.sum(dim=1) / mask_NT.sum(dim=1).clamp(min=1))

    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:
        """See :class:`Aggregation`."""
        return SequenceMean().mean(term_NT, mask_NT, totals)
