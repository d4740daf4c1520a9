"""The gates as tables of text."""

from __future__ import annotations

from gatepo.formulas.properties import IN_TRAINING
from gatepo.gates.rows import Row
from gatepo.text_table import Rows, of_texts

NOTES = """\
f(1) is a constant that acts on nothing; half-width: how far above r = 1 the slope falls to 1/2. The paper's properties:
(i) f' is continuous, (ii) its maximum is 1, at r = 1, (iii) it decreases away from 1, (iv) r f'(r) -> 0.
eur (eq. 12) is the mean of f', eur/passed that of f' bounded to [0, 1], which is the share of the gradient that the
gate lets through: the two differ where f' leaves [0, 1], at the ratios given here.
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
    """Give decay, f(1), half-width and properties of each gate, and where its EUR is not the share that it passes."""
    widths = ("half-width", f"at tau={tau:g}")
    lines: Rows = [("gate", "decay of f'", "f(1)", *widths, "eur/passed", "(i)", "(ii)", "(iii)", "(iv)")]
    for row in found:
        properties = map(str, row.examination.findings)
        width_here = f"{row.half_width_here:.4g}"
        lines.append(
            (row.name, row.examination.decay, row.at_one, row.half_width, width_here, _passed(row), *properties)
        )
    return of_texts(lines)


def _passed(row: Row) -> str:
    if row.beyond is None:
        return "is eur"
    least, most = row.beyond
    return f"differs: r < {most:.3g}" if least < 1e-8 else f"differs: r in ({least:.3g}, {most:.3g})"


def broken(found: list[Row]) -> list[str]:
    """Give one paragraph of a line for each property that a gate breaks; none where all hold."""
    lines = [
        f"{row.name} breaks ({finding.number}): {finding.witness}; {IN_TRAINING[finding.number]}"
        for row in found
        for finding in row.examination.broken
    ]
    return ["\n".join(lines)] if lines else []
