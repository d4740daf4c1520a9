"""The gate's temperature, chosen by the sign of the advantage (eq. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gatepo.objective.gates import Gate


class Tau(Protocol):
    """The pair of temperatures in force."""

    @property
    def pos(self) -> float: ...

    @property
    def neg(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantTau:
    """tau_pos where A > 0, tau_neg otherwise (eq. 3)."""

    pos: float = 10.0
    neg: float = 12.0


def tau_by_sign(advantage_N: Tensor, tau: Tau) -> Tensor:
    """tau of each completion (eq. 3): ``tau.pos`` where A > 0, ``tau.neg`` where A <= 0. Shape [N], dimensionless."""
    return torch.where(advantage_N > 0, advantage_N.new_tensor(tau.pos), advantage_N.new_tensor(tau.neg))


def tau_with_half_width(gate: Gate, half_width: float) -> float:
    """The tau at which the gate's slope is 1/2 at the distance ``half_width`` above r = 1.

    Equal tau compares widths as much as shapes: the half-widths are 1.763, 1.177, 1 and 0.766 over tau for sigmoid,
    erf, arctan and softsign.

    Raises:
      ValueError: the gate's width does not depend on tau, or no tau in [1e-6, 1e6] gives this one.
    """
    low, high = math.log(1e-6), math.log(1e6)
    if not gate.half_width(math.exp(high)) < half_width < gate.half_width(math.exp(low)):
        raise ValueError(f"no tau gives {gate} the half-width {half_width}")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gate.half_width(math.exp(middle)) > half_width else (low, middle)
    return math.exp((low + high) / 2)
