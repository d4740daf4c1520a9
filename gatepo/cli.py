"""What every entry point shares: Hydra with our words around it, and errors as one line."""

from __future__ import annotations

import errno
import functools
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gatepo import lazy_torch, overrides, signals
from gatepo.errors import TrainingStopped, UserError
from gatepo.help import KEY, page
from gatepo.launch.slurm import tasks
from gatepo.memory import is_out_of_memory, out_of_memory_line
from gatepo.presets import register, yaml_dir
from gatepo.reference import help_page
from gatepo.schema import COMMANDS, TrainConfig

USER_ERROR = 2  # the exit code of a process that has said in one line what was wrong
_FOLDER_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose ``conf/NAME.yaml`` with the command line and run ``task`` on it; exit 2 after a user's error."""
    lazy_torch.import_on_use()
    logging.raiseExceptions = False  # a log on a full disk; what does not fit elsewhere is said
    signals.listen(speaks=not started_with_others() or _is_first())
    with errors_as_one_line():
        register()
        asked = [word.removeprefix(KEY) for word in sys.argv[1:] if word.startswith(KEY)]
        if asked:
            print("\n\n".join(page(name, word) for word in asked), flush=True)
            return
        sys.argv[1:] = overrides.flags_first(overrides.prepared(sys.argv[1:], name))
    if any(word in ("--help", "-h") for word in sys.argv[1:]):
        with errors_as_one_line(kind=COMMANDS.get(name, TrainConfig)):
            print(help_page(name, [word for word in sys.argv[1:] if not word.startswith("-")]), flush=True)
        return
    # Hydra would print its errors over several lines, and end with advice that helps nobody here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if started_with_others() and not _is_first():
        # The run's folder is the first rank's; the others leave nothing of Hydra's behind.
        sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none"]

    @functools.wraps(task)
    def guarded(composed: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # which goes on with the next job, and reports at the end
            return task(composed)
        with errors_as_one_line():
            return task(composed)

    with errors_as_one_line(kind=COMMANDS.get(name, TrainConfig)):
        hydra.main(version_base="1.3", config_path=str(yaml_dir("conf").resolve()), config_name=name)(guarded)()


def started_with_others() -> bool:
    """Whether torchrun or SLURM started this process as one of several."""
    return "RANK" in os.environ or tasks(os.environ) > 1


def _is_first() -> bool:
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID")) == "0"


def say(line: str) -> None:
    """Print an error for the user."""
    print(f"gatepo: {line}", file=sys.stderr, flush=True)


class errors_as_one_line:
    """Turn what a user can correct into one line for ``say`` and exit code 2; anything else keeps its traceback.

    Args:
      say: takes the line.
      kind: the class of the command's settings, of which wrong words on the command line remind.
    """

    def __init__(self, say: Callable[[str], None] = say, kind: type | None = None) -> None:
        self._say = say
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
            sys.exit(signals.exit_code(signal.SIGPIPE))
        line = None if error is None else one_line(error, self._kind)
        if line is not None:
            self._say(line)
            sys.exit(USER_ERROR)


def _nobody_reads() -> bool:
    """Say whether the output goes into a pipe that was closed, as by ``| head``."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except OSError:  # it is no file at all
        return False
    return any(state & select.POLLERR for _, state in poll.poll(0))


def one_line(error: BaseException, kind: type | None = None) -> str | None:
    """Give the error as one line, or None where it is not a user's to correct."""
    if isinstance(error, UserError | TrainingStopped):
        return str(error)
    if is_out_of_memory(error):
        return out_of_memory_line(error)
    if overrides.is_hydras(error):
        own = next((cause for cause in _causes(error) if isinstance(cause, UserError)), None)
        return str(own) if own is not None else overrides.one_line(error, kind, sys.argv[1:])
    if isinstance(error, OSError) and error.errno in _FULL:
        what = error.filename or "what the run leaves in its folder"
        return f"cannot write {what} ({error.strerror}); make room, or set the run's folder with hydra.run.dir=FOLDER"
    if isinstance(error, OSError) and (error.errno in _FOLDER_ERRORS or _making_a_folder(error)):
        return f"cannot write {error.filename} ({error.strerror}); set the run's folder with hydra.run.dir=FOLDER"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give the errors behind one, the nearest first: of a value that follows from another, OmegaConf raises its own."""
    behind = error.__cause__ or error.__context__
    while behind is not None:
        yield behind
        behind = behind.__cause__ or behind.__context__


def _making_a_folder(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name in ("mkdir", "makedirs")
