"""Start the processes of a run on this machine and wait for them."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gatepo.cli import USER_ERROR
from gatepo.errors import UserError
from gatepo.launch.environment import LAUNCHED

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


def launch(job: Path, folder: Path, devices: int, threads: int | None) -> None:
    """Train in ``devices`` processes; when one dies the others are ended, and its traceback is shown.

    Args:
      job: the resolved config.
      folder: of the run.
      devices: processes to start.
      threads: CPU threads of each; None shares the cores out.
    Raises:
      UserError: a process failed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from gatepo import checkpoint  # imports torch
    from gatepo.launch.loopback import register
    from gatepo.world import LOCALHOST

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed is said below
    start = elastic_launch(
        LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=uuid.uuid4().hex,
            rdzv_backend=register(),
            local_addr=LOCALHOST,
            max_restarts=0,
        ),
        sys.executable,
    )
    share = str(threads or max(1, len(os.sched_getaffinity(0)) // devices))
    try:
        with _environment({"OMP_NUM_THREADS": share} | os.environ | {LAUNCHED: "1"}):
            start("-m", "gatepo.launch.rank", str(job), str(folder))
    except BaseException as error:
        checkpoint.say_how_to_resume(folder)
        if isinstance(error, ChildFailedError):
            raise UserError(_said(*error.get_first_failure())) from None
        raise


def _said(rank: int, failure: ProcessFailure) -> str:
    """Return the line of a rank that left one, else its traceback."""
    message = failure.error_file_data.get("message", failure.message)
    if failure.exitcode == USER_ERROR and isinstance(message, dict):
        return str(message["message"]).removeprefix(f"{UserError.__name__}: ")
    trace = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else message
    return f"rank {rank} died (process {failure.pid}, exit code {failure.exitcode}):\n{trace.strip()}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Give these variables to the processes started within, and not to the next job of a multirun."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
