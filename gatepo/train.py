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
from dataclasses import fields, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gatepo import claim, cli, config, journal, resume, run_folder, slips
from gatepo.errors import UserError
from gatepo.launch import multirun
from gatepo.launch.environment import COMMAND, DIES_WITH_PARENT, WORDS
from gatepo.launch.job import SettingsFile
from gatepo.launch.settings import LAUNCHER, MultirunSettings
from gatepo.preflight import require_reachable
from gatepo.run_folder import CONFIG, how_to_go_on
from gatepo.schema import TrainConfig
from gatepo.tracking.base import require_installed


def task(composed: DictConfig) -> multirun.Job | None:
    """Validate one job, then train here or in processes of its own; give it to the launcher of a multirun here.

    What is refused leaves no folder behind.
    """
    try:
        return _task(composed)
    except (UserError, OmegaConfBaseException) as error:
        if not isinstance(error, UserError) or "\n" not in str(error):  # else a traceback, and no refused settings
            _leave_nothing(Path(HydraConfig.get().runtime.output_dir).resolve())
        raise


def _leave_nothing(folder: Path) -> None:
    """Remove the folder that Hydra has made for a run that was refused; not what somebody else made, or works in."""
    if HydraConfig.get().mode == RunMode.MULTIRUN or folder in {Path.cwd(), *_THERE_BEFORE} or not folder.is_dir():
        return
    with suppress(UserError):
        claim.refuse_if_held(folder, "hydra.run.dir")
        run_folder.remove_if_nothing_ran(folder)


def _task(composed: DictConfig) -> multirun.Job | None:
    settings = config.from_composed(TrainConfig, composed)
    hydra = HydraConfig.get()
    ours = hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_ == LAUNCHER and not cli.started_with_others()
    if hydra.mode == RunMode.RUN and hydra.sweeper.params:
        raise UserError(f"+sweep must stand with -m, got a single run of {dict(hydra.sweeper.params)}; add -m")
    folder = Path(hydra.runtime.output_dir)
    finished = False
    if ours and settings.resume in (None, resume.AUTO):
        settings = multirun.with_own_threads(settings, list(hydra.overrides.task))
    if settings.resume == resume.AUTO:
        folder = _typed_folder() or folder
        finished = _is_done(folder, settings)
        if finished:
            print(f"{folder} is finished", flush=True)
    elif settings.resume is not None:
        folder = Path(settings.resume)
        settings = resume.with_changes(folder, settings, list(hydra.overrides.task))
    if finished:
        return multirun.Job(settings=settings, folder=folder, finished=True) if ours else None
    os.environ[WORDS] = shlex.join(hydra.overrides.task)
    if not cli.started_with_others():  # of which the first knows the folder
        resume.require_usable(folder, settings)
    if settings.devices > 1 and not cli.started_with_others():
        _require_fit(settings)  # what cannot fit need not be on the hub
    require_installed(settings.tracker)
    require_reachable(settings.model.path, settings.data)
    if ours:
        return multirun.Job(settings=settings, folder=folder, finished=False)
    if settings.devices > 1 and not cli.started_with_others():
        train_in_processes(settings, folder)
    elif hydra.mode == RunMode.MULTIRUN:
        _run_in_process_of_its_own(settings, folder)
    else:
        from gatepo.launch.rank import (
            train_here,  # transformers, which --help and bad input need not wait for
        )

        train_here(settings, folder)
    return None


LAUNCH = [f.name for f in fields(MultirunSettings)]
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

    signals.say_beside(lambda: how_to_go_on(folder))
    with SettingsFile(settings, folder) as job:
        try:
            launch(job, folder, settings.devices, settings.threads)
        except BaseException as error:
            journal.note_end(folder, error)
            raise


def _require_fit(settings: TrainConfig) -> None:
    from gatepo.plan import fit

    fit.require_fit(settings, fit.this_machine(look_at_gpus=False), settings.devices)  # its remarks are the ranks'


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


def _run_in_process_of_its_own(settings: TrainConfig, folder: Path) -> None:
    signals.say_beside(lambda: how_to_go_on(folder))
    started: list[int] = []
    with SettingsFile(settings, folder) as job, signals.passed_on(lambda: started):
        command = [sys.executable, "-m", "gatepo.launch.rank", str(job), str(folder)]
        environment = os.environ | {DIES_WITH_PARENT: str(os.getpid())}
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
    key = "hydra.sweep.dir" if set(slips.MULTIRUN) & set(words) else "hydra.run.dir"
    if not any(word.startswith(f"{key}=") for word in words):
        raise UserError(
            f"resume=auto must stand beside {key}=FOLDER, by which the run is found again, got none; type it"
        )


def _launched(words: list[str]) -> list[str]:
    """Choose the launcher of a multirun, where nothing else was typed, and give it its own words.

    Raises:
      UserError: ``jobs`` is no number of jobs, or nothing here takes the words.
    """
    own = [word for word in words if word.partition("=")[0] in LAUNCH]
    chosen = [word for word in words if word.startswith("hydra/launcher=")] or ["hydra/launcher=processes"]
    if not set(slips.MULTIRUN) & set(words):
        if own:
            raise UserError(f"{_key(own[-1])} must stand beside -m, got {own[-1]} for a single run; add -m")
        return words
    if own and chosen[-1] != "hydra/launcher=processes":
        words_of = f"{_key(own[-1])} must stand without another launcher, got {chosen[-1]}"
        raise UserError(f"{words_of}; use what that one has for it")
    for word in own:
        if _key(word) == "jobs":
            MultirunSettings(jobs=_number(word))
    others = [word for word in words if word not in (*own, *chosen)]
    last = {_key(word): word for word in own}
    return [*others, chosen[-1], *(f"hydra.launcher.{word}" for word in last.values())]


def _key(word: str) -> str:
    return word.partition("=")[0]


def _number(word: str) -> int:
    value = word.partition("=")[2]
    if not value.lstrip("-").isdecimal():
        raise UserError(f"jobs must be a whole number, got {value}; type e.g. jobs=2")
    return int(value)


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
        sys.argv[1:] = _launched(sys.argv[1:])
    cli.run("train", task)


if __name__ == "__main__":
    main()
