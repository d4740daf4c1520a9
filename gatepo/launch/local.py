"""Start the processes of a run on this machine and wait for them."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from gatepo import signals
from gatepo.cli import USER_ERROR
from gatepo.errors import UserError
from gatepo.launch.environment import LAUNCHED, given
from gatepo.run_folder import found, how_to_go_on

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

PATIENCE = 5  # seconds from when one rank has ended to when the others are killed


def launch(job: Path, folder: Path, devices: int, threads: int | None) -> None:
    """Train in ``devices`` processes; when one dies the others are ended, and its traceback is shown.

    What asks this process to stop is passed on to them: ranks have sessions of their own, to which a terminal does not
    speak. This process then ends with them.

    Args:
      job: the resolved config.
      folder: of the run.
      devices: processes to start.
      threads: CPU threads of each; None shares the cores out.
    Raises:
      UserError: a process failed.
    """
    from gatepo import checkpoint  # imports torch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed is said below
    known = found(folder)
    share = str(threads or max(1, len(os.sched_getaffinity(0)) // devices))
    handled = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGHUP,SIGQUIT"}  # the others are ours
    with given({"OMP_NUM_THREADS": share} | os.environ | handled | {LAUNCHED: str(os.getpid())}):
        agent = _agent(devices, ("-m", "gatepo.launch.rank", str(job), str(folder)))
        try:
            with signals.passed_on(lambda: _ranks(agent)):
                failure = _first_failure(agent)
        except BaseException:
            checkpoint.say_how_to_resume(folder, known)
            raise
    if failure is None:
        return
    stopped = signals.ended_by(failure[1].exitcode)
    if stopped is not None:
        stopped = signals.asked() or stopped
        job.unlink(missing_ok=True)
        signals.leave(stopped, f"{signals.stopped(stopped)}; {how_to_go_on(folder)}")
    checkpoint.say_how_to_resume(folder, known)
    raise UserError(_said(*failure))


def _agent(devices: int, arguments: tuple[str, ...]) -> LocalElasticAgent:
    """Make what starts the ranks, as :func:`torch.distributed.launcher.api.elastic_launch` does, and shows its own."""
    import torch.distributed.elastic.rendezvous.registry as rendezvous
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters

    from gatepo.launch.loopback import register
    from gatepo.world import LOCALHOST

    parameters = RendezvousParameters(
        backend=register(), endpoint="", run_id=uuid.uuid4().hex, min_nodes=1, max_nodes=1, local_addr=LOCALHOST
    )
    spec = WorkerSpec(
        role="default",
        local_world_size=devices,
        entrypoint=sys.executable,
        args=arguments,
        rdzv_handler=rendezvous.get_rendezvous_handler(parameters),
        max_restarts=0,
        monitor_interval=0.1,
        local_addr=LOCALHOST,
    )
    return LocalElasticAgent(spec, DefaultLogsSpecs(), shutdown_timeout=PATIENCE)


def _ranks(agent: LocalElasticAgent) -> list[int]:
    """Give the process ids of the ranks; none before all have started."""
    return [worker.id for worker in agent.get_worker_group().workers if worker.id]


def _first_failure(agent: LocalElasticAgent) -> tuple[int, ProcessFailure] | None:
    """Run the ranks, and give the first that failed, with its number."""
    try:
        failures = agent.run().failures
    finally:
        agent.get_worker_group().spec.rdzv_handler.shutdown()
    return min(failures.items(), key=lambda item: item[1].timestamp, default=None)


def _said(rank: int, failure: ProcessFailure) -> str:
    """Return the line of a rank that left one, else its traceback."""
    message = failure.error_file_data.get("message", failure.message)
    if failure.exitcode == USER_ERROR and isinstance(message, dict):
        return str(message["message"]).removeprefix(f"{UserError.__name__}: ")
    trace = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else message
    return f"rank {rank} died (process {failure.pid}, exit code {failure.exitcode}):\n{trace.strip()}"
