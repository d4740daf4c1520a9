"""The value of a gate of which only the slope is known: f(x) = 1 + the integral of f' from 1 to x, by tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Slope = Callable[[Tensor, Tensor], Tensor]  # f'(ratio, tau)

TOLERANCE = 1e-10  # of one cell's integral, absolute and relative; the value then holds to 1e-8
LARGEST_LOG_RATIO = 88.0  # the bound of ratio.clamp
FIRST_WIDTH = 0.05  # of a cell, before any is halved
MOST_CELLS = 100_000  # a slope that needs more oscillates far out, and no table of it ends
HALVINGS = 40  # of a cell that holds a kink or a jump of the slope
POINTS = 10  # of a Gauss-Legendre rule


class NoIntegral(ValueError):
    """A slope whose integral no table holds to the stated error; the message says how far it went."""


@dataclass(frozen=True, slots=True, eq=False)
class IntegratedValue:
    """f(x) = 1 + int_1^x f'(u) du, dimensionless, without gradient.

    In w = asinh(tau (x - 1)) the slope's peak and its tail are equally wide. Cells in w are halved until a
    Gauss-Legendre rule agrees with its two halves and a cubic through both ends' values and slopes with the integral,
    each to 1e-10 (absolute, and relative to the cell); between the ends that cubic is the value. Error: 1e-8, absolute
    up to f = 1, relative beyond. One table for each tau, kept; computed and read in float64.
    """

    slope: Slope

    def __call__(self, ratio: Tensor, tau: Tensor) -> Tensor:
        """In the shape and dtype of ``ratio``; ``tau`` broadcasts to it and should hold few distinct numbers."""
        found = torch.empty_like(ratio)
        for number in tau.unique().tolist():
            whole = _table(self.slope, number)(ratio)
            found = torch.where(tau == number, whole.to(ratio.dtype), found)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    tau: float
    node_K: Tensor  # in w
    value_K: Tensor
    rate_K: Tensor  # df/dw

    def __call__(self, ratio: Tensor) -> Tensor:
        node_K, value_K, rate_K = (part.to(ratio.device) for part in (self.node_K, self.value_K, self.rate_K))
        w = torch.asinh(self.tau * (ratio.double() - 1)).clamp(node_K[0], node_K[-1])
        cell = (torch.searchsorted(node_K, w) - 1).clamp(0, len(node_K) - 2)
        width = node_K[cell + 1] - node_K[cell]
        t = (w - node_K[cell]) / width
        rise = value_K[cell + 1] - value_K[cell]
        start, end = rate_K[cell] * width, rate_K[cell + 1] * width
        # The cubic in t with these two values and slopes (Hermite).
        return value_K[cell] + t * (start + t * (3 * rise - 2 * start - end + t * (start + end - 2 * rise)))


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
    return _Table(tau=tau, node_K=node_K, value_K=1 + total_K - at_one, rate_K=rate(node_K))


def _first_nodes(tau: float) -> Tensor:
    """From x = 0 to the largest ratio; x = 1, where w = 0, is one of them."""
    lowest, highest = math.asinh(-tau), math.asinh(tau * math.exp(LARGEST_LOG_RATIO))
    below = torch.linspace(lowest, 0, 2 + int(-lowest / FIRST_WIDTH), dtype=torch.float64)
    above = torch.linspace(0, highest, 2 + int(highest / FIRST_WIDTH), dtype=torch.float64)
    return torch.cat([below, above[1:]])


def _rate(slope: Slope, tau: float) -> Callable[[Tensor], Tensor]:
    """df/dw = f'(x) dx/dw at x = 1 + sinh(w) / tau."""
    tau_1 = torch.tensor(tau, dtype=torch.float64)

    def rate(w: Tensor) -> Tensor:
        return slope((1 + torch.sinh(w) / tau).clamp(min=0), tau_1) * torch.cosh(w) / tau

    return rate


def _integrals(rate: Callable[[Tensor], Tensor], left_C: Tensor, right_C: Tensor) -> Tensor:
    """Of each cell, by a Gauss-Legendre rule; exact for polynomials of degree 19."""
    point_Q, weight_Q = _gauss_legendre()
    half_C = (right_C - left_C) / 2
    w_CQ = (left_C + half_C)[:, None] + half_C[:, None] * point_Q
    return half_C * (rate(w_CQ) * weight_Q).sum(dim=1)


def _wrong(rate: Callable[[Tensor], Tensor], node_K: Tensor) -> Tensor:
    """Which cells are too wide for the rule or for the cubic."""
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
    """Points and weights on [-1, 1], from the eigenvalues of the Jacobi matrix (Golub and Welsch 1969)."""
    k = torch.arange(1, POINTS, dtype=torch.float64)
    beside = k / torch.sqrt(4 * k**2 - 1)
    point_Q, vector_QQ = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return point_Q, 2 * vector_QQ[0] ** 2
