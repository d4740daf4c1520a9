"""The gates as tables of text."""

from __future__ import annotations

from gatepo.formulas.properties import IN_TRAINING
from gatepo.gates.rows import Row
from gatepo.text_table import Rows, of_texts

NOTES = """\
f(1) is a constant that acts on nothing; half-width: how far above r = 1 the slope falls to 1/2. The paper's properties:
(i) f' is continuous, (ii) its maximum is 1, at r = 1, (iii) it decreases away from 1, (iv) r f'(r) -> 0.
Proven: by sympy, for every tau > 0. Checked: in float64 at tau = {tau:g}, on 34,000 ratios up to 1e12, to the bounds
that gatepo/formulas/properties.py states. Not strict: f' is level somewhere."""


def report(found: list[Row], tau: float) -> str:
    """Give the table, and below it what is broken and what that means in training."""
    return "\n\n".join((formulas(found), figures(found, tau), *broken(found), NOTES.format(tau=tau)))


def formulas(found: list[Row]) -> str:
    """Give value and slope of each gate."""
    lines: Rows = [("gate", "f(x)", "f'(x)")]
    for row in found:
        if row.formula is None:
            lines.append((row.name, "states no formula", ""))
        else:
            lines.append((row.name, row.formula.value or "1 + the integral of f' from 1 to x", row.formula.slope))
    return of_texts(lines)


def figures(found: list[Row], tau: float) -> str:
    """Give decay, f(1), half-width and properties of each gate."""
    lines: Rows = [("gate", "decay of f'", "f(1)", "half-width", f"at tau={tau:g}", "(i)", "(ii)", "(iii)", "(iv)")]
    for row in found:
        properties = map(str, row.examination.findings)
        lines.append(
            (row.name, row.examination.decay, row.at_one, row.half_width, f"{row.half_width_here:.4g}", *properties)
        )
    return of_texts(lines)


def broken(found: list[Row]) -> list[str]:
    """Give one paragraph of a line for each property that a gate breaks; none where all hold."""
    lines = [
        f"{row.name} breaks ({finding.number}): {finding.witness}; {IN_TRAINING[finding.number]}"
        for row in found
        for finding in row.examination.broken
    ]
    return ["\n".join(lines)] if lines else []
