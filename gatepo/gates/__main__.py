"""What each gate is: ``python -m gatepo.gates at=10 plot=true gate=custom gate.slope='sech(tau*(x-1))'``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from gatepo import cli, config
from gatepo.schema import GatesConfig
from gatepo.settings import name_of

if TYPE_CHECKING:
    from gatepo.gates.rows import Row

NOTES = """\
f(1) is a constant that acts on nothing; half-width: how far above r = 1 the slope falls to 1/2. The paper's properties:
(i) f' is continuous, (ii) its maximum is 1, at r = 1, (iii) it decreases away from 1, (iv) r f'(r) -> 0.
Proven: by sympy, for every tau > 0. Checked: in float64 at tau = {tau:g}, on 34,000 ratios up to 1e12, to the bounds
that gatepo/objective/properties.py states. Not strict: f' is level somewhere."""


def report(found: list[Row], tau: float) -> str:
    """The table, and below it what is broken and what that means in training."""
    return "\n\n".join((formulas(found), figures(found, tau), *broken(found), NOTES.format(tau=tau)))


def formulas(found: list[Row]) -> str:
    """Value and slope of each gate."""
    lines: list[tuple[str, ...]] = [("gate", "f(x)", "f'(x)")]
    for row in found:
        if row.formula is None:
            lines.append((row.name, "states no formula", ""))
        else:
            lines.append((row.name, row.formula.value or "1 + the integral of f' from 1 to x", row.formula.slope))
    return table(lines)


def figures(found: list[Row], tau: float) -> str:
    """Decay, f(1), half-width and properties of each gate."""
    lines: list[tuple[str, ...]] = [
        ("gate", "decay of f'", "f(1)", "half-width", f"at tau={tau:g}", "(i)", "(ii)", "(iii)", "(iv)")
    ]
    for row in found:
        properties = map(str, row.examination.findings)
        lines.append(
            (row.name, row.examination.decay, row.at_one, row.half_width, f"{row.half_width_here:.4g}", *properties)
        )
    return table(lines)


def broken(found: list[Row]) -> list[str]:
    """One paragraph of a line for each property that a gate breaks; none where all hold."""
    from gatepo.objective.properties import IN_TRAINING

    lines = [
        f"{row.name} breaks ({finding.number}): {finding.witness}; {IN_TRAINING[finding.number]}"
        for row in found
        for finding in row.examination.broken
    ]
    return ["\n".join(lines)] if lines else []


def table(lines: list[tuple[str, ...]]) -> str:
    """Columns to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def task(composed: DictConfig) -> None:
    """Validate, print, and draw where asked to."""
    settings = config.from_composed(GatesConfig, composed)
    from gatepo.gates.rows import chosen, of_figure, rows  # torch, which --help and bad input need not wait for

    shown = chosen(settings)
    print(report(rows(shown, settings.at), settings.at))
    notes = [f"gate={name_of(gate)}: {note}" for gate in shown.values() for note in getattr(gate, "notes", ())]
    if notes:
        print("", *notes, sep="\n")
    if settings.plot:
        from gatepo.gates.figure import draw

        print(f"\n{draw(of_figure(settings, shown), Path(settings.out))}")


def main() -> None:
    """Entry point of ``python -m gatepo.gates`` and of the script ``gatepo-gates``."""
    cli.run("gates", task)


if __name__ == "__main__":
    main()
