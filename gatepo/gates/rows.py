"""What the table and the figure show: gates, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gatepo.errors import UserError
from gatepo.formulas.properties import PEAK, Examination, examine
from gatepo.objective import gates
from gatepo.objective.gates import Formula, Formulated, Gate
from gatepo.objective.gates.usable import require_usable
from gatepo.schema import GatesConfig
from gatepo.settings import name_of

PAPER = ("clip", "sigmoid", "erf", "arctan", "softsign")  # of Figure 1
CHECK_TAUS = (1.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One gate at one sign of A, or at both where they are the same."""

    name: str
    formula: Formula | None
    at_one: str  # f(1)
    half_width: str  # for every tau
    half_width_here: float
    beyond: tuple[float, float] | None  # the least and the largest ratio whose slope is not in [0, 1]; None: no such
    examination: Examination


def chosen(settings: GatesConfig) -> dict[str, Gate]:
    """Give the gates to show, by name: the families of ``gates=``, and the one that ``gate=`` sets up.

    Where nothing chooses the families these are all, or the paper's five beside a gate of the user's own.
    """
    is_own = name_of(settings.gate) not in gates.names()
    wanted = list(settings.gates if settings.gates is not None else PAPER if is_own else gates.names())
    if not wanted:
        raise UserError("gates must name a gate, got []; e.g. gates=[clip,erf], or leave it out for all of them")
    unknown = [name for name in wanted if name not in gates.names()]
    if unknown:
        known = ", ".join(gates.names())
        raise UserError(f"gates must be among {known}, got {', '.join(unknown)}; e.g. gates=[clip,erf]")
    shown = {name: gates.get(name) for name in wanted}
    name, own = name_of(settings.gate), settings.gate
    require_usable(own, (settings.at,))
    if name in wanted or name not in gates.names() or own != gates.get(name):
        shown[name] = own
    return shown


def of_figure(settings: GatesConfig, shown: dict[str, Gate]) -> dict[str, Gate]:
    """Choose those that the figure shows: what was asked for, else the paper's five and the one of ``gate=``."""
    wanted = (*PAPER, name_of(settings.gate)) if settings.gates is None else tuple(shown)
    return {name: shown[name] for name in dict.fromkeys(wanted)}


def rows(shown: dict[str, Gate], tau: float) -> list[Row]:
    """Give one or two rows for each gate, with what sympy proves of its formula."""
    sides = [(name, gate, positive) for name, gate in shown.items() for positive in _signs(gate, tau)]
    proofs = _proofs([_formula(gate, positive is not False) for _, gate, positive in sides])
    return [
        Row(
            name=name if positive is None else f"{name}, A {'> 0' if positive else '<= 0'}",
            formula=_formula(gate, positive is not False),
            at_one=_at_one(gate, positive is not False),
            half_width=_half_width(gate),
            half_width_here=gate.half_width(tau),
            beyond=_beyond(gate, tau, positive is not False),
            examination=examine(gate, tau, positive is not False, proof),
        )
        for (name, gate, positive), proof in zip(sides, proofs, strict=True)
    ]


def _formula(gate: Gate, positive: bool) -> Formula | None:
    return gate.formula(positive) if isinstance(gate, Formulated) else None


def _proofs(formulas: Sequence[Formula | None]) -> list[dict[str, Any] | None]:
    """Collect sympy's answers, each formula asked once; None for a gate without one, or where sympy gave up."""
    from gatepo.formulas.solver import ask

    slopes = list(dict.fromkeys(formula.slope for formula in formulas if formula is not None))
    answers = dict(zip(slopes, ask(*(("properties", slope) for slope in slopes)), strict=True))
    return [None if formula is None else answers[formula.slope] for formula in formulas]


def _signs(gate: Gate, tau: float) -> tuple[bool | None, ...]:
    """Return (None,) where the slope does not depend on the sign of A, else both signs."""
    ratio = torch.linspace(0, 20, 2001, dtype=torch.float64)
    tau_1 = torch.tensor(tau, dtype=torch.float64)
    positive, negative = (gate.slope(ratio, tau_1, torch.tensor(sign)) for sign in (True, False))
    return (None,) if torch.equal(positive, negative) else (True, False)


def _beyond(gate: Gate, tau: float, positive: bool) -> tuple[float, float] | None:
    """Give the ends of the ratios, of 200,001 from e^-20 to e^20, at which EUR counts more than a whole token."""
    ratio = torch.linspace(-20, 20, 200_001, dtype=torch.float64).exp()
    slope = gate.slope(ratio, torch.tensor(tau, dtype=torch.float64), torch.tensor(positive))
    found = ratio[(slope > 1 + PEAK) | (slope < -PEAK)]
    return (found[0].item(), found[-1].item()) if len(found) else None


def _by_tau(values: dict[float, float]) -> str:
    """Write numbers at several tau as a formula: a constant, or c / tau."""
    scaled = [value * tau for tau, value in values.items()]
    for numbers, words in ((list(values.values()), "{:.4g}"), (scaled, "{:.4g}/tau")):
        if all(number == numbers[0] or abs(number / numbers[0] - 1) < 1e-6 for number in numbers):
            return words.format(numbers[0])
    return "depends on tau"


def _at_one(gate: Gate, positive: bool) -> str:
    one, sign = torch.ones(1, dtype=torch.float64), torch.tensor([positive])
    taus = [torch.tensor([tau], dtype=torch.float64) for tau in CHECK_TAUS]
    return _by_tau({tau.item(): gate.value(one, tau, sign).item() for tau in taus})


def _half_width(gate: Gate) -> str:
    return _by_tau({tau: gate.half_width(tau) for tau in CHECK_TAUS})
