"""What other gates would have done with a run's tokens: ``python -m gatepo.probe run=outputs/...``.

    python -m gatepo.probe run=outputs/... 'gates=[clip,sigmoid,erf,arctan,softsign]' tau=paper

Takes the rollout batches that a run stored in its checkpoints (checkpoint.every=N checkpoint.keep=null) and says what
each gate would have done with the very same tokens under the very same weights.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

from omegaconf import DictConfig

from gatepo import cli, config
from gatepo.schema import ProbeConfig


def task(composed: DictConfig) -> None:
    """Validate, and read."""
    settings = config.from_composed(ProbeConfig, composed)
    from gatepo.probe.command import probe  # torch, which --help and bad input need not wait for

    probe(settings)


def main() -> None:
    """Entry point of ``python -m gatepo.probe`` and of the script ``gatepo-probe``."""
    cli.run("probe", task)


if __name__ == "__main__":
    main()
