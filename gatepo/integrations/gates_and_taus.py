"""What the integrations take as a gate and as a tau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gatepo.errors import UserError
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.gates.usable import require_usable
from gatepo.objective.tau import PAPERS, ConstantTau, Tau


def as_gate(gate: str | Gate, taus: Sequence[float]) -> Gate:
    """Take a gate by its name, or the object itself, and look whether it can be used.

    Args:
      gate: a name of :func:`gatepo.objective.gates.names`, or an object with ``value`` and ``slope``.
      taus: temperatures at which it must be usable.
    Raises:
      UserError: no gate has this name, the object is none, or its slope is not the derivative of its value.
    """
    found = gates.get(gate) if isinstance(gate, str) and gate in gates.names() else gate
    if isinstance(found, type) or not all(callable(getattr(found, part, None)) for part in ("value", "slope")):
        raise UserError(
            f"gate must be one of {', '.join(gates.names())} or a Gate, got {gate!r}; "
            "give an object with value and slope, e.g. gatepo.gates.Erf()"
        )
    require_usable(cast(Gate, found), taus)
    return cast(Gate, found)


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
        paper = ", ".join(f"{one:g}" for one in PAPERS)
        raise UserError(f"tau must be a pair (tau.pos, tau.neg), got {tau!r}; the paper's is ({paper})")
    return cast(float, value)
