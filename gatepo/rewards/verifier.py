"""math-verify behind a deadline: a worker process that is killed and replaced when it is late."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from enum import Enum
from typing import IO

START_SECONDS = 60.0  # importing sympy on a busy machine
MEMORY_BYTES = 4 << 30


class Verdict(Enum):
    """What became of a question to the worker; only ``EQUAL`` scores."""

    EQUAL = "equal"
    DIFFERENT = "different"
    TIMED_OUT = "timed_out"
    DIED = "died"  # of its memory limit, say


class MathVerifier:
    """Asks a worker process whether two expressions mean the same; starts it at the first question.

    Args:
      deadline: seconds per question, counted from when it is asked. A worker that is late is killed, the answer
        scores nothing, and the next question gets a new worker.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._worker: subprocess.Popen[bytes] | None = None

    def __call__(self, gold: str, prediction: str) -> Verdict:
        """Compare; never raises on account of what the texts say."""
        worker = self._worker = self._worker or _start()
        request = json.dumps({"gold": gold, "prediction": prediction}) + "\n"
        try:
            _pipe(worker.stdin).write(request.encode())
            _pipe(worker.stdin).flush()
            reply = _read_line(worker, self._deadline)
        except BrokenPipeError:
            reply = b""
        if reply is None or not reply:
            self.close()
            return Verdict.TIMED_OUT if reply is None else Verdict.DIED
        return Verdict.EQUAL if json.loads(reply) else Verdict.DIFFERENT

    def close(self) -> None:
        """Kill the worker, if there is one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            _pipe(self._worker.stdout).close()
            with contextlib.suppress(BrokenPipeError):  # it may hold a request that the dead worker will never read
                _pipe(self._worker.stdin).close()
            self._worker = None


def _start() -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "gatepo.rewards.worker", str(MEMORY_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    if _read_line(worker, START_SECONDS) != b"ready\n":
        worker.kill()
        worker.wait()
        raise RuntimeError("the answer checker did not start; try: python -m gatepo.rewards.worker 4294967296")
    return worker


def _read_line(worker: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """One line, b"" at the end of the stream, or None at the deadline."""
    descriptor = _pipe(worker.stdout).fileno()
    end, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return b""
        line += chunk
    return line


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
