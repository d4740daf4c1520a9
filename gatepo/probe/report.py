"""What the probe found, as tables and as JSON."""

from __future__ import annotations

from statistics import fmean

import torch

from gatepo.objective.surrogate import Objective
from gatepo.probe.measure import Reading
from gatepo.probe.snapshots import Snapshot
from gatepo.schema import ProbeConfig
from gatepo.text_table import Rows, of_figures

COLUMNS = {
    "eur": "EUR",
    "eur/passed": "passed",
    "eur/positive": "EUR, A > 0",
    "eur/negative": "EUR, A < 0",
    "coefficient/mean": "mean coefficient",
    "coefficient/max": "largest",
    "grad_norm": "gradient norm",
    "noise_over_signal": "noise / signal",
}


def report(
    settings: ProbeConfig,
    objectives: dict[str, Objective],
    readings: dict[str, list[Reading]],
    cosine_KK: torch.Tensor,
    stored: list[Snapshot],
) -> str:
    """Give figures by gate, means over the batches, and the cosines between their gradients."""
    batches = ", ".join(f"update {s.update} (after {s.iteration} iterations)" for s in stored)
    rows: Rows = [("gate", "tau.pos", "tau.neg", "half-width", *COLUMNS.values())]
    for name, found in readings.items():
        tau, gate = objectives[name].tau, objectives[name].gate
        means = mean_figures(found)
        figures = (f"{means[key]:.4g}" if key in means else "" for key in COLUMNS)
        rows.append((name, f"{tau.pos:.4g}", f"{tau.neg:.4g}", f"{gate.half_width(tau.pos):.3g}", *figures))
    cosine_rows: Rows = [("cosine of gradients", *readings)]
    for name, row in zip(readings, cosine_KK.tolist(), strict=True):
        cosine_rows.append((name, *(f"{value:.4f}" for value in row)))
    return f"{settings.run}: {batches}\n\n{of_figures(rows)}\n\n{of_figures(cosine_rows)}\n"


def mean_figures(found: list[Reading]) -> dict[str, float]:
    """Give means over the batches, of the figures that every batch has."""
    all_figures = [reading.figures() for reading in found]
    shared = [key for key in all_figures[0] if all(key in figures for figures in all_figures)]
    return {key: fmean(figures[key] for figures in all_figures) for key in shared}


def as_json(readings: dict[str, list[Reading]], cosine_KK: torch.Tensor, stored: list[Snapshot]) -> dict[str, object]:
    """Give everything that was printed, batch by batch."""
    return {
        "batches": [{"update": s.update, "iteration": s.iteration} for s in stored],
        "gates": {name: [reading.figures() for reading in found] for name, found in readings.items()},
        "cosine": dict(zip(readings, cosine_KK.tolist(), strict=True)),
    }
