"""The gate's temperature, chosen by the sign of the advantage (eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Tau(Protocol):
    """The pair of temperatures in force."""

    pos: float
    neg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantTau:
    """tau_pos where A > 0, tau_neg otherwise, unchanged over the run (eq. 3)."""

    pos: float = 10.0
    neg: float = 12.0


def tau_by_sign(advantage_N: Tensor, tau: Tau) -> Tensor:
    """tau of each completion (eq. 3): ``tau.pos`` where A > 0, ``tau.neg`` where A <= 0. Shape [N], dimensionless."""
    return torch.where(advantage_N > 0, tau.pos, tau.neg)
