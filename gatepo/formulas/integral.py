"""Where only the slope of a gate is known, its value f(x) = 1 + the integral of f' from 1 to x is read from tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Slope = Callable[["Tensor", "Tensor"], "Tensor"]  # f'(ratio, tau)

TOLERANCE = 1e-10  # of one cell's integral, absolute and relative; the value then holds to 1e-8
LARGEST_LOG_RATIO = 88.0  # the bound of ratio.clamp
FIRST_WIDTH = 0.05  # of a cell, before any is halved
MOST_CELLS = 100_000  # a slope that needs more oscillates far out, and no table of it ends
HALVINGS = 40  # of a cell that holds a kink or a jump of the slope
POINTS = 10  # of a Gauss-Legendre rule


class NoIntegral(ValueError):
    """No table holds the integral of this slope to the stated error; the message says how far it went."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegratedValue:
    """The value is f(x) = 1 + int_1^x f'(u) du, dimensionless and without gradient.

    In w = asinh(tau (x - 1)) the slope's peak and its tail are equally wide. Cells in w are halved until a
    Gauss-Legendre rule agrees with its two halves and a cubic through both ends' values and slopes with the integral,
    each to 1e-10 (absolute, and relative to the cell); between the ends that cubic is the value. Error: 1e-8, absolute
    up to f = 1, relative beyond. One table for each tau, kept; computed and read in float64.
    """

    slope: Slope

    def __call__(self, ratio: Tensor, tau: Tensor) -> Tensor:
        """Read f from the tables, in the shape and dtype of ``ratio``.

        ``tau`` broadcasts to ``ratio``. Each distinct number in it costs a table when it occurs first.

        Raises:
          NoIntegral: the slope oscillates so far out that no table of it ends.
        """
        distinct, which = tau.unique(return_inverse=True)
        return _joined(self.slope, tuple(distinct.tolist()), ratio.device)(ratio, tau, which)


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The tables of Q temperatures, one behind the other, so that one search finds the cell of every token."""

    lowest_Q: Tensor  # the range of each in w
    highest_Q: Tensor
    shift_Q: Tensor  # added to w, it puts each table behind the one before
    shifted_K: Tensor  # the nodes of all, ascending
    cubic_K5: Tensor  # the node in w, then the coefficients of the cubic in the distance from it, lowest order first

    def __call__(self, ratio: Tensor, tau: Tensor, which: Tensor) -> Tensor:
        w = (ratio.double() - 1).mul_(tau).asinh_()
        w = torch.minimum(torch.maximum(w, self.lowest_Q[which]), self.highest_Q[which])
        cell = torch.searchsorted(self.shifted_K, w + self.shift_Q[which], right=True) - 1
        node, value, rate, second, third = self.cubic_K5[cell].unbind(-1)
        beyond = w - node
        found = torch.addcmul(value, beyond, torch.addcmul(rate, beyond, torch.addcmul(second, beyond, third)))
        return found.to(ratio.dtype)


@lru_cache(maxsize=64)
def _joined(slope: Slope, taus: tuple[float, ...], device: torch.device) -> _Tables:
    tables = [_table(slope, tau) for tau in taus]
    lowest_Q, highest_Q = (torch.stack([table.node_K[end] for table in tables]) for end in (0, -1))
    end_Q = (highest_Q - lowest_Q + 1).cumsum(0)  # 1 apart, so that rounding moves no token into another's table
    shift_Q = end_Q - highest_Q
    shifted_K = torch.cat([table.node_K + shift for table, shift in zip(tables, shift_Q, strict=True)])
    cubic_K5 = torch.cat([table.cubic_K5() for table in tables])
    return _Tables(*(part.to(device) for part in (lowest_Q, highest_Q, shift_Q, shifted_K, cubic_K5)))


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    node_K: Tensor  # in w
    value_K: Tensor
    rate_K: Tensor  # df/dw

    def cubic_K5(self) -> Tensor:
        """See :class:`_Tables`: the cubic with the values and slopes of both ends (Hermite); a constant at the last."""
        width_C, rise_C = self.node_K.diff(), self.value_K.diff()
        start_C, end_C = self.rate_K[:-1] * width_C, self.rate_K[1:] * width_C
        second_C = (3 * rise_C - 2 * start_C - end_C) / width_C**2
        third_C = (start_C + end_C - 2 * rise_C) / width_C**3
        last = torch.zeros(1, dtype=torch.float64)
        columns = (self.node_K, self.value_K, self.rate_K, torch.cat([second_C, last]), torch.cat([third_C, last]))
        return torch.stack(columns, dim=1)


@lru_cache(maxsize=64)
def _table(slope: Slope, tau: float) -> _Table:
    rate = _rate(slope, tau)
    node_K = _first_nodes(tau)
    for _ in range(HALVINGS):
        coarse_C = _wrong(rate, node_K)
        if not coarse_C.any():
            break
        middle = (node_K[1:] + node_K[:-1])[coarse_C] / 2
        node_K = torch.cat([node_K, middle]).unique()
        if len(node_K) > MOST_CELLS:
            raise NoIntegral(f"more than {MOST_CELLS} cells up to the ratio e^{LARGEST_LOG_RATIO:g} at tau = {tau:g}")
    total_K = torch.cat([torch.zeros(1, dtype=torch.float64), _integrals(rate, node_K[:-1], node_K[1:]).cumsum(0)])
    at_one = total_K[torch.searchsorted(node_K, torch.zeros((), dtype=torch.float64))]
    return _Table(node_K=node_K, value_K=1 + total_K - at_one, rate_K=rate(node_K))


def _first_nodes(tau: float) -> Tensor:
    """Place nodes from x = 0 to the largest ratio; x = 1, where w = 0, is one of them."""
    lowest, highest = math.asinh(-tau), math.asinh(tau * math.exp(LARGEST_LOG_RATIO))
    below = torch.linspace(lowest, 0, 2 + int(-lowest / FIRST_WIDTH), dtype=torch.float64)
    above = torch.linspace(0, highest, 2 + int(highest / FIRST_WIDTH), dtype=torch.float64)
    return torch.cat([below, above[1:]])


def _rate(slope: Slope, tau: float) -> Callable[[Tensor], Tensor]:
    """Compute df/dw = f'(x) dx/dw at x = 1 + sinh(w) / tau."""
    tau_1 = torch.tensor(tau, dtype=torch.float64)

    def rate(w: Tensor) -> Tensor:
        return slope((1 + torch.sinh(w) / tau).clamp(min=0), tau_1) * torch.cosh(w) / tau

    return rate


def _integrals(rate: Callable[[Tensor], Tensor], left_C: Tensor, right_C: Tensor) -> Tensor:
    """Integrate each cell by a Gauss-Legendre rule, which is exact for polynomials of degree 19."""
    point_Q, weight_Q = _gauss_legendre()
    half_C = (right_C - left_C) / 2
    w_CQ = (left_C + half_C)[:, None] + half_C[:, None] * point_Q
    return half_C * (rate(w_CQ) * weight_Q).sum(dim=1)


def _wrong(rate: Callable[[Tensor], Tensor], node_K: Tensor) -> Tensor:
    """Flag the cells that are too wide for the rule or for the cubic."""
    left_C, right_C = node_K[:-1], node_K[1:]
    width_C, middle_C = right_C - left_C, (left_C + right_C) / 2
    whole_C = _integrals(rate, left_C, right_C)
    first_C, second_C = _integrals(rate, left_C, middle_C), _integrals(rate, middle_C, right_C)
    rate_K = rate(node_K)
    cubic_C = whole_C / 2 + width_C / 8 * (rate_K[:-1] - rate_K[1:])  # what it gains up to the middle
    error_C = torch.maximum((first_C + second_C - whole_C).abs(), (cubic_C - first_C).abs())
    return error_C > TOLERANCE * (1 + whole_C.abs())


@lru_cache(maxsize=1)
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Compute points and weights on [-1, 1] from the eigenvalues of the Jacobi matrix (Golub and Welsch 1969)."""
    k = torch.arange(1, POINTS, dtype=torch.float64)
    beside = k / torch.sqrt(4 * k**2 - 1)
    point_Q, vector_QQ = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return point_Q, 2 * vector_QQ[0] ** 2
