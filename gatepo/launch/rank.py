"""The process that trains: ``python -m gatepo.launch.rank CONFIG.yaml FOLDER``, started by :mod:`gatepo.train`.

With several devices there is one such process for each.
"""

from __future__ import annotations

from gatepo import signals
from gatepo.launch.environment import end_with_parent

if __name__ == "__main__":  # before what takes seconds to import
    signals.listen(speaks=False)
    end_with_parent()

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import yaml

from gatepo import collector
from gatepo.errors import Interrupted, UserError
from gatepo.launch.environment import DIES_WITH_PARENT, LAUNCHED
from gatepo.run_folder import found, how_to_go_on

with collector.still():  # torch and transformers
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record

    from gatepo import checkpoint, cli, config, rules
    from gatepo.run import describe, run
    from gatepo.schema import TrainConfig
    from gatepo.world import World, is_broken_connection, join

log = logging.getLogger(__name__)


def train_here(settings: TrainConfig, folder: Path) -> None:
    """Join the run's other processes, train, and say how it went."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch|vllm|deepspeed")  # no user can help them
    world = join()
    folder = world.broadcast(folder)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    known = found(shown)
    if world.first:
        signals.say_beside(lambda: how_to_go_on(shown))
    try:
        summary = run(_on(settings, world), shown, world)
    except BaseException as error:
        if isinstance(error, Interrupted) or (signals.asked() and is_broken_connection(error)):
            _leave(shown, world)
        if LAUNCHED not in os.environ:
            checkpoint.say_how_to_resume(shown, known)
        if isinstance(error, RuntimeError):
            world.name_the_dead(error)
        raise
    if world.first:
        print(describe(summary, shown), flush=True)
    if settings.rollout.EXITS_HARD or settings.engine.EXITS_HARD or world.size > 1:
        # Everything is written and closed; tearing process groups down at exit could abort the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _leave(folder: Path, world: World) -> NoReturn:
    """End, as this process was asked to; one of all ranks says so."""
    number = signals.asked()
    line = f"{signals.stopped(number)}; {how_to_go_on(folder)}" if world.first and _speaks() else None
    signals.leave(number, line)


def _speaks() -> bool:
    """Say whether this process was started by a person, or else who did that says how it ended."""
    return LAUNCHED not in os.environ and DIES_WITH_PARENT not in os.environ


def _on(settings: TrainConfig, world: World) -> TrainConfig:
    """Return the settings with the number of processes that were really started."""
    if settings.devices == world.size:
        return settings
    if world.first and settings.devices != 1:
        log.warning("devices=%d gives way to the %d processes that were started", settings.devices, world.size)
    settings = replace(settings, devices=world.size)
    rules.check(settings)
    return settings


@record
def _main() -> None:
    with cli.errors_as_one_line(_tell_launcher if LAUNCHED in os.environ else cli.say):
        settings = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
        train_here(config.from_plain(TrainConfig, settings), Path(sys.argv[2]))


def _tell_launcher(line: str) -> None:
    """Leave an error for the launcher, which says it once for all ranks."""
    get_error_handler().record_exception(UserError(line))


def main() -> None:
    """Entry point. A traceback goes to torchrun's error file, so that the first rank to fail can be named."""
    _main()


if __name__ == "__main__":
    main()
