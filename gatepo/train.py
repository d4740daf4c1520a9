"""Train: ``python -m gatepo.train gate=arctan tau.pos=10``.

A single run trains in this process. Each job of a multirun gets a process of its own, so that its memory is given
back and its failure stops no other.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gatepo import cli, config
from gatepo.errors import UserError
from gatepo.schema import TrainConfig


def task(composed: DictConfig) -> None:
    """One job: validate, then train here or in a process of its own."""
    settings = config.typed(composed)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        _run_in_process_of_its_own(settings, folder)
    else:
        from gatepo.worker import work  # torch and transformers, which --help and bad input need not wait for

        work(settings, folder)


def _run_in_process_of_its_own(settings: TrainConfig, folder: Path) -> None:
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(config.plain(settings), sort_keys=False), encoding="utf-8")
    code = subprocess.run([sys.executable, "-m", "gatepo.worker", str(job), str(folder)], check=False).returncode
    job.unlink()
    if code != 0:
        raise UserError(f"the job in {folder} ended with exit code {code}; its message is above")


def main() -> None:
    """Entry point of ``python -m gatepo.train`` and of the script ``gatepo-train``."""
    cli.run("train", task)


if __name__ == "__main__":
    main()
