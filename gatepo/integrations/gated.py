"""What a gate gives to another trainer: f(r) and f'(r) of every token.

Axes: N completions, T tokens (1 where a ratio or an advantage belongs to the whole completion).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gatepo.errors import UserError
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.tau import ConstantTau, Tau, tau_by_sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A gate at the ratios of a micro-batch; both [N, T], dimensionless."""

    value_NT: Tensor  # f(r) - f(1) + 1, the gradient flows through it
    slope_NT: Tensor  # f'(r), detached


def gated(gate: Gate, tau: Tau, log_ratio_NT: Tensor, advantage_NT: Tensor) -> Gated:
    """The gate's value and slope, tau by the sign of A (eq. 3).

    As in :func:`gatepo.objective.surrogate.policy_loss`, the value passes through (1, 1) for every family.

    Args:
      gate: f and f'.
      tau: its pair of temperatures.
      log_ratio_NT: log r, masked and clamped (:class:`gatepo.objective.ratio.TokenRatio`), nats.
      advantage_NT: A, of a shape that broadcasts to it.
    """
    ratio_NT = log_ratio_NT.exp()
    tau_NT = tau_by_sign(advantage_NT, tau)
    positive_NT = advantage_NT > 0
    at_one_NT = gate.value(torch.ones_like(tau_NT), tau_NT, positive_NT)
    value_NT = gate.value(ratio_NT, tau_NT, positive_NT) - (at_one_NT - 1)
    with torch.no_grad():
        slope_NT = gate.slope(ratio_NT, tau_NT, positive_NT)
    return Gated(value_NT=value_NT, slope_NT=slope_NT)


def as_gate(gate: str | Gate) -> Gate:
    """A gate by its name, or the object itself.

    Raises:
      UserError: no gate has this name.
    """
    if not isinstance(gate, str):
        return gate
    if gate not in gates.names():
        raise UserError(f"gate must be one of {', '.join(gates.names())} or a Gate, got {gate!r}")
    return gates.get(gate)


def as_tau(tau: Tau | Sequence[float]) -> Tau:
    """A pair (tau.pos, tau.neg), or an object that has both.

    Raises:
      UserError: not a pair, or not finite and > 0.
    """
    pair: Any = ConstantTau(pos=tau[0], neg=tau[1]) if isinstance(tau, Sequence) and len(tau) == 2 else tau
    for sign, papers in (("pos", 10), ("neg", 12)):
        value = getattr(pair, sign, None)
        if value is None:
            raise UserError(f"tau must be a pair (tau.pos, tau.neg), got {tau!r}; the paper uses (10, 12)")
        if not (value > 0 and math.isfinite(value)):
            raise UserError(f"tau.{sign} must be a finite number > 0, got {value}; the paper uses {papers}")
    return cast(Tau, pair)
