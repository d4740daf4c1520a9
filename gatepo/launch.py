"""Start the processes of a run on this machine and wait for them."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from pathlib import Path

from gatepo.errors import UserError

USER_ERROR = 2  # the exit code of a worker that has already said in one line what was wrong


def launch(job: Path, folder: Path, devices: int, threads: int | None) -> None:
    """Run ``gatepo.worker`` in ``devices`` processes; when one dies the others are ended, and its traceback is shown.

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

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed is said below
    os.environ["GATEPO_LAUNCHED"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(threads or max(1, len(os.sched_getaffinity(0)) // devices)))
    start = elastic_launch(
        LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
        ),
        sys.executable,
    )
    try:
        start("-m", "gatepo.worker", str(job), str(folder))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == USER_ERROR:
            raise UserError(f"the run in {folder} ended with an error; its message is above") from None
        trace = failure.error_file_data.get("message", failure.message)
        if isinstance(trace, dict):
            trace = trace["extraInfo"]["py_callstack"]
        raise UserError(
            f"rank {rank} died (process {failure.pid}, exit code {failure.exitcode}):\n{trace.strip()}"
        ) from None
