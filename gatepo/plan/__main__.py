"""What a run needs: ``python -m gatepo.plan +experiment=paper/erf``; takes what ``python -m gatepo.train`` takes."""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

from omegaconf import DictConfig

from gatepo import cli, config
from gatepo.remarks import remarks
from gatepo.schema import TrainConfig


def task(composed: DictConfig) -> None:
    """Validate as for training, and print."""
    settings = config.from_composed(TrainConfig, composed)
    from gatepo.plan import fit, report  # torch, which bad input need not wait for

    refused, said = fit.look(settings, fit.this_machine(look_at_gpus=True), settings.devices)
    print("\n".join((report.report(settings), *remarks(settings), *said)))
    for line in refused:
        print(f"python -m gatepo.train refuses to try this here: {line}")


def main() -> None:
    """Entry point of ``python -m gatepo.plan`` and of the script ``gatepo-plan``."""
    cli.run("plan", task)


if __name__ == "__main__":
    main()
