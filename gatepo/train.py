"""Train a model, or a grid of models with -m: ``python -m gatepo.train gate=arctan tau.pos=10``.

A single run on one device trains in this process, and so does each process that torchrun or SLURM started. With
``devices=N`` this process starts N others. Each job of a multirun gets processes of its own, so that its memory is
given back and its failure stops no other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gatepo import claim, cli, config
from gatepo.errors import UserError
from gatepo.launch.environment import COMMAND, DIES_WITH_PARENT
from gatepo.schema import TrainConfig


def task(composed: DictConfig) -> None:
    """Run one job: validate, then train here or in processes of its own."""
    settings = config.from_composed(TrainConfig, composed)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and hydra.sweeper.params:
        raise UserError(f"+sweep must stand with -m, got a single run of {dict(hydra.sweeper.params)}; add -m")
    folder = Path(hydra.runtime.output_dir)
    if settings.resume is not None:
        folder = Path(settings.resume)
        settings = _settings_of(folder, list(hydra.overrides.task), settings.trust)
    if settings.devices > 1 and not cli.started_with_others():
        train_in_processes(settings, folder)
    elif hydra.mode == RunMode.MULTIRUN:
        _run_in_process_of_its_own(settings, folder)
    else:
        from gatepo.launch.rank import (
            train_here,  # transformers, which --help and bad input need not wait for
        )

        train_here(settings, folder)


def train_in_processes(settings: TrainConfig, folder: Path) -> None:
    """Train in processes of its own, as many as there are devices.

    Raises:
      UserError: one of them failed.
    """
    if settings.devices == 1:
        _run_in_process_of_its_own(settings, folder)
        return
    from gatepo.launch.local import launch

    with _Job(settings, folder) as job:
        launch(job, folder, settings.devices, settings.threads)


def _settings_of(run: Path, overrides: list[str], trust: bool) -> TrainConfig:
    """Read what an interrupted run was started with; nothing of it can be changed on the way."""
    others = [text for text in overrides if not text.startswith(("resume=", "trust="))]
    if others:
        raise UserError(f"resume must stand alone, got {' '.join(others)} beside it; the run's own settings go on")
    return replace(config.load(run / "config.yaml", trust=trust), resume=str(run))


class _Job:
    """The settings as a file for other processes, for as long as they run."""

    def __init__(self, settings: TrainConfig, folder: Path) -> None:
        self._path = folder / f"job-{os.getpid()}.yaml"
        self._text = yaml.safe_dump(config.plain(settings), sort_keys=False)

    def __enter__(self) -> Path:
        self._path.write_text(self._text, encoding="utf-8")
        return self._path

    def __exit__(self, *error: object) -> None:
        self._path.unlink()


def _run_in_process_of_its_own(settings: TrainConfig, folder: Path) -> None:
    with _Job(settings, folder) as job:
        command = [sys.executable, "-m", "gatepo.launch.rank", str(job), str(folder)]
        code = subprocess.run(command, check=False, env=os.environ | {DIES_WITH_PARENT: "1"}).returncode
    if code != 0:
        raise UserError(f"the job in {folder} ended with exit code {code}; its message is above")


def main() -> None:
    """Entry point of ``python -m gatepo.train`` and of the script ``gatepo-train``."""
    os.environ[COMMAND] = shlex.join(["python", "-m", "gatepo.train", *sys.argv[1:]])
    with cli.errors_as_one_line():  # before Hydra makes a folder of that name
        for argument in sys.argv[1:]:
            key, _, value = argument.partition("=")
            if key in ("resume", "hydra.run.dir"):
                claim.refuse_if_held(Path(value), key)
            if key == "resume" and value != "null" and not Path(value, "config.yaml").is_file():
                raise UserError(
                    f"resume must be the folder of a run, got {value}, which has no config.yaml; choose another"
                )
    cli.run("train", task)


if __name__ == "__main__":
    main()
