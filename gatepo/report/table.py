"""Runs beside each other, as a table of text."""

from __future__ import annotations

from gatepo.report.runs import Run, label
from gatepo.text_table import Rows, of_texts


def table(runs: list[Run]) -> str:
    """Give first and last figures of each run; ``last`` is the mean over the last 20 rollout batches."""
    rows: Rows = [("run", "updates", "reward", "entropy", "EUR", "accuracy before -> after")]
    for run in runs:
        figures = [run.first_and_last(key) for key in ("reward", "entropy", run.eur_key)]
        accuracy = run.summary.get("evaluation", {})
        rows.append(
            (
                label(run, runs),
                str(len(run.metrics)),
                *(f"{f['first']:.3f} -> {f['last']:.3f}" for f in figures),
                ", ".join(f"{name} {100 * a['before']:.0f} -> {100 * a['after']:.0f}%" for name, a in accuracy.items()),
            )
        )
    return of_texts(rows)
