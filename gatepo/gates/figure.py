"""The paper's Figure 1: values above, slopes below, tau = 1, 5, 10."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gatepo.objective.gates import Gate

TAUS = (1.0, 5.0, 10.0)
RATIO = torch.linspace(0, 3, 1201, dtype=torch.float64)


def draw(shown: dict[str, Gate], path: Path) -> Path:
    """Draw the figure as PNG; values as f(r) - f(1) + 1, so that all pass through (1, 1)."""
    figure, axes = plt.subplots(
        2, len(TAUS), figsize=(9, 5.5), sharex=True, sharey="row", height_ratios=(1.2, 1), layout="constrained"
    )
    for tau, (above, below) in zip(TAUS, axes.T, strict=True):
        for number, (name, gate) in enumerate(shown.items()):
            _lines(above, below, gate, tau, name, f"C{number}")
        above.set_title(rf"$\tau$ = {tau:g}")
        below.set_xlabel("ratio r")
    axes[0, 0].set(ylabel="value f(r)", ylim=(0, 2.6), xlim=(0, 3))
    axes[1, 0].set(ylabel="slope f'(r)", ylim=(-0.03, 1.08))
    for panel in axes.flat:
        panel.grid(alpha=0.3)
        panel.axvline(1, color="black", linewidth=0.6, alpha=0.5)
    figure.suptitle(r"Gates: value f(r), shifted through (1, 1), and slope f'(r), by temperature $\tau$", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _lines(above: Axes, below: Axes, gate: Gate, tau: float, name: str, color: str) -> None:
    """Draw one gate: where A > 0 as a line, and where A <= 0 broken, if that is another curve."""
    positive, negative = (_curves(gate, tau, sign) for sign in (True, False))
    by_sign = not torch.equal(positive[1], negative[1])
    for panel, curve in zip((above, below), positive, strict=True):
        panel.plot(RATIO, curve, color=color, label=f"{name}, A > 0" if by_sign else name)
    if by_sign:
        for panel, curve in zip((above, below), negative, strict=True):
            panel.plot(RATIO, curve, color=color, linestyle="--", label=f"{name}, A ≤ 0")


def _curves(gate: Gate, tau: float, positive: bool) -> tuple[Tensor, Tensor]:
    tau_1, sign = torch.tensor([tau], dtype=torch.float64), torch.tensor([positive])
    at_one = gate.value(torch.ones(1, dtype=torch.float64), tau_1, sign)
    return gate.value(RATIO, tau_1, sign) - at_one + 1, gate.slope(RATIO, tau_1, sign)
