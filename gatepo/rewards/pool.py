"""Questions to worker processes from any thread, with limits that hold whatever the answers say."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from gatepo.rewards.sandbox import KILLED, STARVED, Limits

START_SECONDS = 120.0  # importing sympy on a busy machine
SILENCE_SECONDS = 30.0  # beyond what one may take, without a verdict: the supervisor itself is gone or stopped


def default_workers() -> int:
    """Give one for every core that this rank may call its own, at most 4: few answers need one at all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@dataclass(slots=True, kw_only=True)
class _Supervisor:
    """The process that keeps the workers, and what it said so far."""

    process: subprocess.Popen[bytes]
    owner: int  # the process that started it: a fork of that one needs a supervisor of its own
    unread: bytes = b""

    def send(self, line: str) -> None:
        """Raises: BrokenPipeError, when it is gone."""
        pipe = _pipe(self.process.stdin)
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    def receive(self, seconds: float) -> str | None:
        """The next line, or None when there is none in time or the supervisor is gone."""
        end = time.monotonic() + seconds
        while b"\n" not in self.unread:
            ready, _, _ = select.select([_pipe(self.process.stdout)], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(_pipe(self.process.stdout).fileno(), 1 << 16) if ready else b""
            if not chunk:
                return None
            self.unread += chunk
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def end(self) -> None:
        """Kill it; its workers die with it."""
        self.process.kill()
        self.process.wait()
        _pipe(self.process.stdout).close()
        with contextlib.suppress(BrokenPipeError):  # it may hold a question that nobody will read
            _pipe(self.process.stdin).close()


class Pool:
    """Worker processes that judge pairs of expressions; they start at the first question.

    Args:
      workers: how many answers are judged at once.
      limits: of a worker. One that breaks a limit is killed and replaced; its answer alone is lost.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self._workers, self._limits = workers, limits
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._supervisor: _Supervisor | None = None

    def ask(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Give the verdict on each (gold, prediction), in order; never raise on account of what the texts say.

        One that got no CPU time, or lost its worker, is asked once more, alone: a busy machine changes no verdict.
        """
        verdicts: dict[int, str] = {}
        with self._held():
            while len(verdicts) < len(pairs):
                self._ask([(n, *pair, False) for n, pair in enumerate(pairs) if n not in verdicts], verdicts)
            for n in [n for n, verdict in verdicts.items() if verdict in (STARVED, KILLED)]:
                self._ask([(n, *pairs[n], True)], verdicts)
        return [verdicts[n] for n in range(len(pairs))]

    def close(self) -> None:
        """End the workers, if there are any."""
        with self._held():
            if self._supervisor is not None and self._supervisor.owner == os.getpid():
                self._supervisor.end()
            self._supervisor = None

    def _held(self) -> threading.Lock:
        """Return the lock; a fork gets its own, for the thread that holds its parent's never lets go of it there."""
        if self._owner != os.getpid():
            self._lock, self._owner = threading.Lock(), os.getpid()
        return self._lock

    def _ask(self, questions: list[tuple[int, str, str, bool]], verdicts: dict[int, str]) -> None:
        """Fill in ``verdicts`` until done or until the supervisor is gone; what it had then counts as killed."""
        supervisor = self._running()
        open_questions: set[int] = set()
        waiting = iter(questions)
        try:
            while True:
                while len(open_questions) < 2 * self._workers and (question := next(waiting, None)) is not None:
                    open_questions.add(question[0])
                    supervisor.send(json.dumps(question))
                if not open_questions:
                    return
                alone = any(question[3] for question in questions)
                longest = self._limits.longest if alone else 1.5 * self._limits.deadline
                reply = supervisor.receive(longest + SILENCE_SECONDS)
                if reply is None:
                    break
                number, verdict = json.loads(reply)
                verdicts[number] = verdict
                open_questions.remove(number)
        except BrokenPipeError:
            pass
        verdicts |= dict.fromkeys(open_questions, KILLED)
        supervisor.end()
        self._supervisor = None

    def _running(self) -> _Supervisor:
        if self._supervisor is None or self._supervisor.owner != os.getpid():
            self._supervisor = self._start()
        return self._supervisor

    def _start(self) -> _Supervisor:
        options = {
            "workers": self._workers,
            "memory_bytes": self._limits.memory_bytes,
            "deadline": self._limits.deadline,
            "parent": os.getpid(),
        }
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "gatepo.rewards.sandbox", json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # what a terminal sends to a job does not come here
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            supervisor = _Supervisor(process=process, owner=os.getpid())
            if supervisor.receive(START_SECONDS) != "ready":
                supervisor.end()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"the answer checker did not start: {said[-1] if said else 'no word from it'}")
        return supervisor


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
