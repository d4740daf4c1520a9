"""What each gate is: ``python -m gatepo.gates at=10 plot=true gate=custom gate.slope='sech(tau*(x-1))'``."""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

from pathlib import Path

from omegaconf import DictConfig

from gatepo import cli, config
from gatepo.schema import GatesConfig
from gatepo.settings import name_of


def task(composed: DictConfig) -> None:
    """Validate, print, and draw where asked to."""
    settings = config.from_composed(GatesConfig, composed)
    from gatepo.gates.report import report
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
