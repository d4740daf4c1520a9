"""``train.log`` in a run's folder: its command, what it said, its results, and how it ended."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatepo import signals
from gatepo.errors import Interrupted, TrainingStopped, UserError
from gatepo.launch.environment import LAUNCHED

FILE = "train.log"
_OURS = logging.getLogger("gatepo")
_open: list[logging.Handler] = []  # of the run that this process writes about


@contextmanager
def kept(folder: Path, start: Mapping[str, Any]) -> Iterator[None]:
    """Write down what this process logs; of the ranks that gatepo.launch starts, their end is written by it.

    Args:
      folder: of the run.
      start: its entry in run.json.
    """
    with _to(folder):
        _speak()
        _OURS.info("folder   %s", folder)
        code, versions = start["code"], start["versions"]
        commit = f" ({code['commit'][:10]}{', with changes' if code['dirty'] else ''})" if code["commit"] else ""
        note(f"command  {start['command']}")
        note(f"versions gatepo {code['version']}{commit}, " + ", ".join(f"{n} {v}" for n, v in versions.items()))
        try:
            yield
        except BaseException as error:
            if LAUNCHED not in os.environ:
                note(_end(error))
            raise


def note(lines: str) -> None:
    """Write lines to ``train.log`` alone; nothing where this process keeps none."""
    for handler in _open:
        handler.handle(logging.makeLogRecord({"name": __name__, "levelno": logging.INFO, "msg": lines}))


def note_end(folder: Path, error: BaseException) -> None:
    """Write how a run ended whose ranks cannot say so themselves."""
    if folder.is_dir():
        with _to(folder):
            note(_end(error))


def keep_silent() -> None:
    """Leave what every rank would say to the first."""
    _OURS.setLevel(logging.ERROR)


@contextmanager
def _to(folder: Path) -> Iterator[None]:
    handler = logging.FileHandler(folder / FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _open.append(handler)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        _open.remove(handler)
        logging.getLogger().removeHandler(handler)
        handler.close()


def _speak() -> None:
    """Let this process say on its output what it logs, where nothing does so yet: Hydra has set that up in its own."""
    _OURS.setLevel(logging.INFO)
    if all(handler in _open for handler in logging.getLogger().handlers):
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(logging.Formatter("%(message)s"))
        logging.getLogger().addHandler(console)


def _end(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return signals.stopped(error.number)
    if isinstance(error, UserError | TrainingStopped):
        return f"gatepo: {error}"
    return "".join(traceback.format_exception(error)).rstrip()
