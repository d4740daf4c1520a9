"""The command line of gatepo, as a user would type it.

Importing torch and transformers takes longer than most of what is tested with it. So a server that has imported them
forks a process for each command; everything from ``sys.argv`` to the exit code is that process's own.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).parent.parent
SECONDS = 300
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["gatepo.launch.rank", "gatepo.evaluate.grading", "gatepo.probe.measure"])


def nothing() -> None:
    """What is done before most commands."""


def gatepo(
    module: str,
    *arguments: str,
    cwd: Path = REPO,
    first: Callable[[], None] = nothing,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """``python -m gatepo.MODULE ARGUMENTS`` in ``cwd``, after ``first``; after five minutes it counts as hanging."""
    variables = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)} | environment
    with tempfile.TemporaryDirectory() as name:
        streams = [Path(name) / "out", Path(name) / "errors"]
        process = _server.Process(target=_run, args=(f"gatepo.{module}", arguments, cwd, variables, streams, first))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([module, *arguments], SECONDS)
        out, errors = (stream.read_text() for stream in streams)
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, out, errors)


def _run(
    module: str,
    arguments: tuple[str, ...],
    cwd: Path,
    variables: dict[str, str],
    streams: list[Path],
    first: Callable[[], None],
) -> None:
    """In the forked process: become the command."""
    for descriptor, stream in enumerate([Path(os.devnull), *streams]):
        opened = os.open(stream, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = [str(cwd), *variables["PYTHONPATH"].split(os.pathsep)]
    sys.argv = [module, *arguments]
    first()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def stack(script: str, *arguments: str | Path, ranks: int | None = None) -> None:
    """Run a script of tests/stack, on so many ranks of torchrun where that is given; it must end well."""
    launcher = () if ranks is None else ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks))
    command = [sys.executable, *launcher, "-m", f"tests.stack.{script}", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
