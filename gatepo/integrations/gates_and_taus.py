"""What the integrations take as a gate and as a tau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gatepo.errors import UserError
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.tau import ConstantTau, Tau


def as_gate(gate: str | Gate) -> Gate:
    """Take a gate by its name, or the object itself.

    Raises:
      UserError: no gate has this name.
    """
    if not isinstance(gate, str):
        return gate
    if gate not in gates.names():
        raise UserError(f"gate must be one of {', '.join(gates.names())} or a Gate, got {gate!r}")
    return gates.get(gate)


def as_tau(tau: Tau | Sequence[float]) -> Tau:
    """Take a pair (tau.pos, tau.neg), or an object that has both.

    Raises:
      UserError: it is no pair, or one of them breaks the rule of a temperature.
    """
    pos, neg = tau if isinstance(tau, Sequence) and len(tau) == 2 else (_side(tau, "pos"), _side(tau, "neg"))
    checked = ConstantTau(pos=pos, neg=neg)
    return checked if isinstance(tau, Sequence) else tau


def _side(tau: Any, sign: str) -> float:
    value = getattr(tau, sign, None)
    if value is None:
        raise UserError(f"tau must be a pair (tau.pos, tau.neg), got {tau!r}; the paper's is (10, 12)")
    return cast(float, value)
