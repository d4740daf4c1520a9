"""Train a model, or a grid of models with -m: ``python -m gatepo.train gate=arctan tau.pos=10``.

A single run on one device trains in this process, and so does each process that torchrun or SLURM started. With
``devices=N`` this process starts N others. Each job of a multirun gets processes of its own, so that its memory is
given back and its failure stops no other.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gatepo import claim, cli, config, journal, resume, run_folder
from gatepo.errors import UserError
from gatepo.launch.environment import COMMAND, DIES_WITH_PARENT
from gatepo.preflight import require_reachable
from gatepo.run_folder import CONFIG, how_to_go_on
from gatepo.schema import TrainConfig


def task(composed: DictConfig) -> None:
    """Run one job: validate, then train here or in processes of its own. What is refused leaves no folder behind."""
    try:
        _task(composed)
    except UserError as error:
        if "\n" not in str(error):  # with a traceback, it is no settings that were refused
            _leave_nothing(Path(HydraConfig.get().runtime.output_dir).resolve())
        raise


def _leave_nothing(folder: Path) -> None:
    """Remove the folder that Hydra has made for a run that was refused; not what somebody else made, or works in."""
    if HydraConfig.get().mode == RunMode.MULTIRUN or folder in {Path.cwd(), *_THERE_BEFORE} or not folder.is_dir():
        return
    with suppress(UserError):
        claim.refuse_if_held(folder, "hydra.run.dir")
        run_folder.remove_if_nothing_ran(folder)


def _task(composed: DictConfig) -> None:
    settings = config.from_composed(TrainConfig, composed)
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and hydra.sweeper.params:
        raise UserError(f"+sweep must stand with -m, got a single run of {dict(hydra.sweeper.params)}; add -m")
    folder = Path(hydra.runtime.output_dir)
    if settings.resume == resume.AUTO:
        folder = _typed_folder() or folder
        if _is_done(folder, settings):
            print(f"{folder} is finished", flush=True)
            return
    elif settings.resume is not None:
        folder = Path(settings.resume)
        settings = resume.with_changes(folder, settings, list(hydra.overrides.task))
    require_reachable(settings.model.path, settings.data)
    if settings.devices > 1 and not cli.started_with_others():
        train_in_processes(settings, folder)
    elif hydra.mode == RunMode.MULTIRUN:
        _run_in_process_of_its_own(settings, folder)
    else:
        from gatepo.launch.rank import (
            train_here,  # transformers, which --help and bad input need not wait for
        )

        train_here(settings, folder)


_THERE_BEFORE: set[Path] = set()  # folders that were typed, and that somebody has made


def train_in_processes(settings: TrainConfig, folder: Path) -> None:
    """Train in processes of its own, as many as there are devices.

    Raises:
      UserError: one of them failed.
    """
    if settings.devices == 1:
        _run_in_process_of_its_own(settings, folder)
        return
    from gatepo.launch.local import launch
    from gatepo.plan import fit

    fit.require_fit(settings, fit.this_machine(look_at_gpus=False), settings.devices)  # its remarks are the ranks'
    signals.say_beside(lambda: how_to_go_on(folder))
    with _Job(settings, folder) as job:
        try:
            launch(job, folder, settings.devices, settings.threads)
        except BaseException as error:
            journal.note_end(folder, error)
            raise


def _typed_folder() -> Path | None:
    """Give the folder that was typed, where this rank itself was given another one (:func:`gatepo.cli.run`)."""
    words = HydraConfig.get().overrides.hydra
    return next((Path(word.partition("=")[2]) for word in words if word.startswith("hydra.run.dir=")), None)


def _is_done(folder: Path, settings: TrainConfig) -> bool:
    """Say whether ``resume=auto`` finds that nothing is left to do.

    Raises:
      UserError: what is finished there had other settings.
    """
    if not resume.is_done(folder, settings):
        return False
    then = config.load(folder / CONFIG, trust=settings.trust, typed=settings)
    resume.require_same_settings(folder, replace(settings, devices=then.devices), resume.as_written(then))
    return True


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
    signals.say_beside(lambda: how_to_go_on(folder))
    started: list[int] = []
    with _Job(settings, folder) as job, signals.passed_on(lambda: started):
        command = [sys.executable, "-m", "gatepo.launch.rank", str(job), str(folder)]
        environment = os.environ | {DIES_WITH_PARENT: "1"}
        with subprocess.Popen(command, env=environment, start_new_session=True) as process:
            started.append(process.pid)
            code = process.wait()
    stopped = signals.ended_by(code)
    if stopped is not None:  # and with it the whole multirun
        stopped = signals.asked() or stopped
        signals.leave(stopped, f"{signals.stopped(stopped)}; {how_to_go_on(folder)}")
    if code != 0:
        raise UserError(f"the job in {folder} ended with exit code {code}; its message is above")


def _require_a_folder(words: list[str]) -> None:
    """Require that ``resume=auto`` can find again what the same command left; a search might find another's run."""
    key = "hydra.sweep.dir" if {"-m", "--multirun"} & set(words) else "hydra.run.dir"
    if not any(word.startswith(f"{key}=") for word in words):
        raise UserError(
            f"resume=auto must stand beside {key}=FOLDER, by which the run is found again, got none; type it"
        )


def main() -> None:
    """Entry point of ``python -m gatepo.train`` and of the script ``gatepo-train``."""
    os.environ[COMMAND] = shlex.join(["python", "-m", "gatepo.train", *sys.argv[1:]])
    with cli.errors_as_one_line():  # before Hydra makes a folder of that name
        for argument in sys.argv[1:]:
            key, _, value = argument.partition("=")
            if argument == f"resume={resume.AUTO}":
                _require_a_folder(sys.argv[1:])
                continue
            if key in ("resume", "hydra.run.dir"):
                _THERE_BEFORE.update(path.resolve() for path in [Path(value)] if path.exists())
                claim.refuse_if_held(Path(value), key)
            if key == "resume" and value != "null" and not Path(value, CONFIG).is_file():
                raise UserError(
                    f"resume must be the folder of a run, got {value}, which has no config.yaml; choose another"
                )
    cli.run("train", task)


if __name__ == "__main__":
    main()
