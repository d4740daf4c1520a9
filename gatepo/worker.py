"""The process that trains: ``python -m gatepo.worker CONFIG.yaml FOLDER``, started by :mod:`gatepo.train`."""

from __future__ import annotations

import sys
from pathlib import Path

from gatepo import cli, config
from gatepo.run import describe, run
from gatepo.schema import TrainConfig


def work(settings: TrainConfig, folder: Path) -> None:
    """Train and say how it went."""
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(describe(run(settings, shown), shown), flush=True)


def main() -> None:
    """Entry point."""
    with cli.errors_as_one_line():
        work(config.read(Path(sys.argv[1])), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
