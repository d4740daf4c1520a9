"""Compare runs: ``python -m gatepo.report multirun/2026-11-21/12-00-00-5b1f20``.

Reads every run in or below the given folders, finished or not, and writes a page (report.html), its figures as PNG and
SVG, its tables as CSV and Markdown, and report.json. Prints a table, and last the page's path.
"""

from __future__ import annotations

from gatepo.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import

import argparse
import sys
from pathlib import Path

from gatepo.cli import errors_as_one_line
from gatepo.errors import UserError
from gatepo.lazy_torch import import_on_use

KEPT = ("update", "reward", "rewards", "entropy", "eur", "tau")  # metrics that a report shows


def main() -> None:
    """Run ``python -m gatepo.report`` and the script ``gatepo-report``."""
    parser = argparse.ArgumentParser(prog="python -m gatepo.report", description=__doc__)
    parser.add_argument(
        "folders", type=Path, nargs="+", help="runs' folders, or those that hold several, as a multirun"
    )
    parser.add_argument("--out", type=Path, help="where the report goes (default: report/ in the first folder)")
    parser.add_argument("--title", help="of the page (default: names of the folders)")
    options = parser.parse_args()
    import_on_use()
    with errors_as_one_line():
        from gatepo.report import tables  # and with them numpy
        from gatepo.report.panels import Material
        from gatepo.report.runs import find_runs, without_copies

        runs, copies = without_copies(find_runs(*options.folders, keep=KEPT))
        for line in copies:
            print(line, file=sys.stderr)
        if not runs:
            raise UserError(
                f"{', '.join(map(str, options.folders))} holds no run: no metrics.jsonl in or below it; "
                "give outputs/... or multirun/..."
            )
        print(tables.groups(Material(runs)).as_text(), flush=True)
        from gatepo.report.write import write  # matplotlib

        title = options.title or ", ".join(folder.resolve().name for folder in options.folders)
        print(write(runs, options.out or options.folders[0] / "report", title=title))


if __name__ == "__main__":
    main()
