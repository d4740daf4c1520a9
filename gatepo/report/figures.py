"""Curves as PNG: reward; entropy beside EUR (the layout of the paper's Figures 3 to 5)."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from gatepo.report.runs import Run, label

REACH = 5  # points on each side that the running mean takes in


def draw(runs: list[Run], folder: Path) -> list[Path]:
    """Draw ``reward.png`` and ``entropy_eur.png`` of one run or several; returns their paths."""
    paths = [folder / "reward.png", folder / "entropy_eur.png"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    _panel(axes, runs, "reward", "mean reward")
    _save(figure, axes, runs, paths[0])

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    _panel(left, runs, "entropy", "policy entropy (nats per token)")
    _panel(right, runs, None, "effective update ratio, last iteration")
    _save(figure, left, runs, paths[1])
    return paths


def _panel(axes: Axes, runs: list[Run], key: str | None, title: str) -> None:
    """Draw one metric of all runs: the running mean, over the faint single values where there is only one run."""
    for run in runs:
        updates, values = run.series(key or run.eur_key)
        (line,) = axes.plot(
            updates, _running_mean(values), label=label(run, runs).replace("$", r"\$")
        )  # it is no formula
        if len(runs) == 1:
            axes.plot(updates, values, color=line.get_color(), alpha=0.3, linewidth=0.8)
    axes.set(xlabel="update", ylabel=title)
    axes.grid(alpha=0.3)


def _save(figure: plt.Figure, axes: Axes, runs: list[Run], path: Path) -> None:
    if len(runs) > 1:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _running_mean(values: list[float]) -> list[float]:
    """Compute the centred running mean, which does not lag; the window shrinks towards both ends."""
    reach = [min(REACH, i, len(values) - 1 - i) for i in range(len(values))]
    return [fmean(values[i - r : i + r + 1]) for i, r in enumerate(reach)]
