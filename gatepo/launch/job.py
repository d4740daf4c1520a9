"""The process of one job of a multirun: ``python -m gatepo.launch.job CONFIG.yaml FOLDER``, or forked.

What it prints goes into ``job.log`` of its folder. One that is forked comes from a process that has imported
everything and done nothing else, so that no pool of threads, no GPU and no sampler's process is up in it.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen(speaks=False)  # before what takes seconds to import

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from gatepo import cli, config
from gatepo.launch.environment import DIES_WITH_PARENT, end_with_parent, given
from gatepo.schema import TrainConfig

LOG = "job.log"  # what it prints; train.log is gatepo/journal.py's
PRELOADED = ("gatepo.launch.multirun", "gatepo.launch.rank")
QUIET = {"TQDM_DISABLE": "1"}  # bars of several processes would write over each other
_HELD_BACK = {*signals.ASKS, signals.FORWARDED}


class SettingsFile:
    """The settings as a file for other processes, for as long as they run."""

    def __init__(self, settings: TrainConfig, folder: Path) -> None:
        self._path = folder / f"job-{os.getpid()}.yaml"
        self._text = yaml.safe_dump(config.plain(settings), sort_keys=False)

    def __enter__(self) -> Path:
        for left in self._path.parent.glob("job-*.yaml"):  # by a process that was killed
            if not _lives(int(left.stem.removeprefix("job-"))):
                left.unlink(missing_ok=True)
        self._path.write_text(self._text, encoding="utf-8")
        return self._path

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@dataclass(frozen=True, slots=True)
class Started:
    """The process of a job, seen from the one that started it."""

    pid: int
    ended: Callable[[], int | None]  # gives its exit code, as :mod:`subprocess` has it, or None


def start(settings: Path, folder: Path, environment: Mapping[str, str]) -> Started:
    """Start a process from nothing, as everything needs that sets up a device or processes of its own.

    Args:
      settings: the file with its settings.
      folder: of the run.
      environment: of the process.
    """
    variables = {**environment, **QUIET, DIES_WITH_PARENT: str(os.getpid())}
    command = [sys.executable, "-m", "gatepo.launch.job", str(settings), str(folder)]
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Started(process.pid, process.poll)


def fork(settings: Path, folder: Path, environment: Mapping[str, str]) -> Started:
    """Start a process that has imported everything already; the arguments are as in :func:`start`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    multiprocessing.resource_tracker.ensure_running()  # which else unblocks the signals that are held back below
    with _held_back(), given(QUIET):
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=_forked, args=(settings, folder, dict(environment)))
    process.start()
    assert process.pid is not None
    return Started(process.pid, lambda: process.exitcode)


def _forked(settings: Path, folder: Path, environment: dict[str, str]) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # what the job itself starts is started as in any other run
    with (folder / LOG).open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    signals.listen(speaks=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with cli.errors_as_one_line():
        _train(settings, folder)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _held_back() -> Iterator[None]:
    """Start a process in which signals wait until someone deals with them; here another thread receives them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train(settings: Path, folder: Path) -> None:
    from gatepo.launch.local import launch
    from gatepo.launch.rank import train_here

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    known = config.from_plain(TrainConfig, yaml.safe_load(settings.read_text(encoding="utf-8")))
    if known.devices > 1:
        launch(settings, folder, known.devices, known.threads)
    else:
        train_here(known, folder)


def main() -> None:
    """Train one job, with as many processes as it has devices."""
    end_with_parent()
    with cli.errors_as_one_line():
        _train(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
