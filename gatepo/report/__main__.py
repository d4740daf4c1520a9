"""Compare runs: ``python -m gatepo.report multirun/2026-11-21/12-00-00-5b1f20``.

Prints a table of every run in or below the given folder, and draws reward.png and entropy_eur.png into it.
"""

from __future__ import annotations

from gatepo.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import

import argparse
from pathlib import Path

from gatepo.cli import errors_as_one_line
from gatepo.errors import UserError
from gatepo.report.figures import draw
from gatepo.report.runs import find_runs
from gatepo.report.table import table


def main() -> None:
    """Run ``python -m gatepo.report`` and the script ``gatepo-report``."""
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


if __name__ == "__main__":
    main()
