"""Compare runs: ``python -m gatepo.report multirun/2026-11-21/12-00-00``.

Prints a table of every run in or below the given folder, and draws reward.png and entropy_eur.png into it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gatepo.cli import errors_as_one_line
from gatepo.errors import UserError
from gatepo.report.figures import draw
from gatepo.report.runs import Run, find_runs, label


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gatepo.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's folder or one that holds several, as a multirun makes")
    parser.add_argument("--out", type=Path, help="where the figures go (default: the folder itself)")
    options = parser.parse_args()
    with errors_as_one_line():
        runs = find_runs(options.folder)
        if not runs:
            raise UserError(
                f"{options.folder} holds no run: no metrics.jsonl in or below it; give outputs/... or multirun/..."
            )
        print(table(runs))
        out = options.out or options.folder
        out.mkdir(parents=True, exist_ok=True)
        for path in draw(runs, out):
            print(path)


def table(runs: list[Run]) -> str:
    """First and last figures of each run; ``last`` is the mean over the last 20 rollout batches."""
    rows: list[tuple[str, ...]] = [("run", "updates", "reward", "entropy", "EUR", "accuracy before -> after")]
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    main()
