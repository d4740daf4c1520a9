"""What a report knows of the gate of a run: its width and its curves.

A run's folder is data: nothing that it names is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.report.runs import Run

RATIOS = [i / 50 for i in range(151)]  # 0 to 3, as in the paper's Figure 1
TAU = "tau/pos"


def name_of(run: Run) -> str:
    """Name the gate as the config does, a formula by the file that holds it; "-" where nothing names it."""
    if run.name_of_formula:
        return run.name_of_formula
    gate = run.config.get("gate")
    found = gate.get("name", gate.get("_target_")) if isinstance(gate, dict) else gate
    return str(found or "-")


def rank(name: str) -> int:
    """Give a gate its place among all: the order of the library, others behind it."""
    known = gates.names()
    return known.index(name) if name in known else len(known)


def gate_of(run: Run) -> Gate | None:
    """Make the run's gate; None where it is not one of the library's, or was set in a way that this version has not."""
    gate = run.config.get("gate")
    if not isinstance(gate, dict) or gate.get("name") not in gates.names():
        return None
    try:
        return gates.get(**gate)
    except (TypeError, ValueError):
        return None


def left_out(runs: Iterable[Run]) -> str:
    """Say which gates are in no figure that needs the gate itself; nothing where all are."""
    names = dict.fromkeys(name_of(run) for run in runs if gate_of(run) is None)
    why = "since a report runs no formula and no code of a run; python -m gatepo.gates draws them."
    return f" Not here: {', '.join(names)}, {why}" if names else ""


def takes_tau(run: Run) -> bool:
    """Say whether the gate's width depends on tau; yes where that is not known."""
    gate = gate_of(run)
    return gate is None or gate.half_width(1.0) != gate.half_width(10.0)


def tau(run: Run) -> float | None:
    """Give tau where A > 0, mean over the run; None where the gate takes no tau or none is known."""
    if not takes_tau(run):
        return None
    found = run.mean(TAU)
    settings = run.config.get("tau")
    typed = settings.get("pos") if isinstance(settings, dict) else None
    return found if found is not None else float(typed) if isinstance(typed, int | float) else None


def half_width(run: Run) -> float | None:
    """Give the distance above r = 1 at which the slope is 1/2, at the run's mean tau; None where there is none."""
    gate, at = gate_of(run), tau(run)
    if gate is None or (at is None and takes_tau(run)):
        return None
    width = gate.half_width(at or 1.0)
    return width if math.isfinite(width) else None


def curves(gate: Gate, at: float) -> tuple[list[float], list[float]]:
    """Give f(r) - f(1) + 1 and f'(r) at :data:`RATIOS`, where A > 0."""
    import torch  # slow to import, and needed for this alone

    ratio = torch.tensor([*RATIOS, 1.0], dtype=torch.float64)
    tau_1, sign = torch.tensor([at], dtype=torch.float64), torch.tensor([True])
    value = gate.value(ratio, tau_1, sign)
    return (value - value[-1] + 1)[:-1].tolist(), gate.slope(ratio, tau_1, sign)[:-1].tolist()
