"""The supervisor of the worker processes that judge answers: ``python -m gatepo.rewards.sandbox``.

It imports the libraries once and forks a worker for every core that it may use: a worker that breaks a limit is killed
and its place is filled in milliseconds. The supervisor itself never looks at an answer, so nothing can hold it up.
:mod:`gatepo.rewards.pool` speaks to it: JSON lines ``[id, gold, prediction, alone]`` in, ``[id, verdict]`` out, in any
order.

An answer's time is its CPU time. One whose worker had its deadline by the clock on the wall without it, because the
machine was busy or the worker stopped, is ``starved``: it says nothing of the answer, which is asked again, alone.

A worker may neither start a process, open a connection, write a file nor compile Python source: an audit hook refuses,
so that no library can be talked into evaluating what a model wrote.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import math
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

EQUAL, DIFFERENT, FAILED, REFUSED, TIMED_OUT, KILLED = "equal", "different", "failed", "refused", "timed out", "killed"
STARVED = "starved"  # of CPU time
NEARLY = 0.9  # of its time, from which on a first try goes on to the end of it
REPLIES = {b"1": EQUAL, b"0": DIFFERENT, b"?": FAILED, b"!": REFUSED}  # of a worker to its supervisor
QUESTIONS = 500  # of one worker, then it makes room: the caches of sympy and of the parser only ever grow
ALIVE_SECONDS = 0.5  # between looks whether the parent is there
PR_SET_PDEATHSIG = 1
# Asked once before the first fork: they load what sympy imports late, and build the tables that it compiles.
WARM_UP = (
    ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("\\left(-\\infty,2\\right)\\cup[3,\\infty)", "(-\\infty,2)\\cup(3,\\infty)"),
    ("\\{1\\pm\\sqrt{5},-2\\}", "1+\\sqrt{5},1-\\sqrt{5},-2"),
    ("\\begin{pmatrix} 1/2 \\\\ -3 \\end{pmatrix}", "\\begin{pmatrix} \\frac{1}{2} \\\\ -3 \\end{pmatrix}"),
    ("x \\le 2", "-x \\ge -2"),
    ("\\tan^2(y)+1", "\\sec^2(y)"),
    ("\\log_2 8 + e^{i\\pi}", "2"),
    ("\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}"),
    ("\\sum_{n=0}^{\\infty} \\frac{1}{n!}", "e"),
    ("\\int_0^{\\infty} e^{-x} dx", "\\sqrt{1}"),
    ("\\lim_{x\\to 0} \\frac{\\sin x}{x}", "x^0"),
    ("2x - y + 1 = 0", "y = 2x + 1"),
)
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.", "pty.", "socket.", "shutil."),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
)
# These compile templates of their own: products of monomials for so many variables, a tuple's methods, annotations.
TEMPLATES = frozenset(("sympy.polys.monomials", "collections", "dataclasses", "typing"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker may use."""

    memory_bytes: int  # of address space, the libraries' own included (about 300 MiB)
    deadline: float  # seconds of CPU time for one answer

    @property
    def cpu_seconds(self) -> int:
        """CPU time for one answer, whole seconds: what ends a worker whose supervisor is gone."""
        return math.ceil(self.deadline) + 1

    @property
    def longest(self) -> float:
        """How long one may take that is asked alone, by the clock on the wall, seconds."""
        return 5.0 + 10 * self.deadline


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker process and what it is busy with."""

    pid: int
    connection: socket.socket
    asked: int = 0
    question: int | None = None  # the id of the one that it works on
    alone: bool = False  # asked again, while no other is
    spent: float | None = None  # CPU seconds before the question; None: unknown on this system
    end: float = math.inf  # when to look at its time, on the monotonic clock
    last: float = math.inf  # when its time is up whatever it had

    def kill(self) -> None:
        """Kill and bury it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.connection.close()


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """Hands each question to a free worker, and each verdict back."""

    limits: Limits
    most: int  # workers
    parent: int  # process id
    questions: int = 0  # descriptor that they come from
    verdicts: int = 1  # descriptor that they go to
    waiting: deque[list[Any]] = field(default_factory=deque)
    workers: list[Worker] = field(default_factory=list)
    unread: bytes = b""

    def run(self) -> None:
        """Serve until the questions end or the parent is gone."""
        try:
            while os.getppid() == self.parent and self._step():
                pass
        finally:
            for worker in self.workers:
                worker.kill()

    def _step(self) -> bool:
        """Wait for something, and deal with it; False at the end of the questions."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.questions, selectors.EVENT_READ, None)
            for worker in self.workers:
                selector.register(worker.connection, selectors.EVENT_READ, worker)
            ready = [key.data for key, _ in selector.select(self._patience())]
        for worker in ready:
            if worker is not None:
                self._hear(worker)
        if None in ready and not self._read():
            return False
        self._end_late_ones()
        self._hand_out()
        return True

    def _patience(self) -> float:
        end = min((worker.end for worker in self.workers), default=math.inf)
        return min(ALIVE_SECONDS, max(0.0, end - time.monotonic()))

    def _read(self) -> bool:
        chunk = os.read(self.questions, 1 << 16)
        *lines, self.unread = (self.unread + chunk).split(b"\n")
        self.waiting.extend(json.loads(line) for line in lines)
        return bool(chunk)

    def _hear(self, worker: Worker) -> None:
        try:
            reply = worker.connection.recv(64)
        except ConnectionResetError:
            reply = b""
        if reply:
            self._report(worker, REPLIES[reply])
        if not reply or worker.asked >= QUESTIONS:
            self._replace(worker, KILLED)

    def _end_late_ones(self) -> None:
        now, few = time.monotonic(), (1 - NEARLY) * self.limits.deadline
        for worker in [worker for worker in self.workers if worker.end <= now]:
            used = _cpu_seconds(worker.pid)
            left = None if used is None or worker.spent is None else self.limits.deadline + worker.spent - used
            if left is not None and left <= 0:
                self._replace(worker, TIMED_OUT)
            elif now >= worker.last or (not worker.alone and (left is None or left > few)):
                self._replace(worker, TIMED_OUT if worker.alone else STARVED)
            else:
                worker.end = min(worker.last, now + 0.01 + (left or 0.0))

    def _replace(self, worker: Worker, verdict: str) -> None:
        self.workers.remove(worker)
        worker.kill()
        if worker.question is not None:
            self._report(worker, verdict)

    def _report(self, worker: Worker, verdict: str) -> None:
        os.write(self.verdicts, json.dumps([worker.question, verdict]).encode() + b"\n")
        worker.question, worker.end = None, math.inf

    def _hand_out(self) -> None:
        while self.waiting and (worker := self._free()) is not None:
            question, gold, prediction, alone = self.waiting.popleft()
            if alone and worker.asked:  # a worker of its own
                self._replace(worker, KILLED)
                worker = self._fork()
                self.workers.append(worker)
            now, deadline = time.monotonic(), self.limits.deadline
            worker.question, worker.alone, worker.spent = question, alone, _cpu_seconds(worker.pid)
            worker.end, worker.last = now + deadline, now + (self.limits.longest if alone else 1.5 * deadline)
            worker.asked += 1
            worker.connection.sendall(json.dumps([gold, prediction]).encode() + b"\n")

    def _free(self) -> Worker | None:
        for worker in self.workers:
            if worker.question is None:
                return worker
        if len(self.workers) == self.most:
            return None
        self.workers.append(self._fork())
        return self.workers[-1]

    def _fork(self) -> Worker:
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            _serve(theirs, self.limits, supervisor)
        theirs.close()
        return Worker(pid=pid, connection=ours)


def _cpu_seconds(pid: int) -> float | None:
    """Give the CPU time of a process; None where the system does not say."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it has just ended
            return time.clock_gettime((~pid << 3) | 2)  # the clock of a process, as clock_getcpuclockid(3) makes it
    return None


def _serve(connection: socket.socket, limits: Limits, supervisor: int) -> NoReturn:
    """Live a worker's whole life: answer until the connection ends or a limit is broken."""
    from gatepo.rewards.judge import equal

    try:
        _confine(limits, supervisor)
        with connection.makefile("r", encoding="utf-8") as questions:
            for line in questions:
                _allow_cpu_seconds(limits.cpu_seconds)
                try:
                    reply = b"1" if equal(*json.loads(line)) else b"0"
                except MemoryError:
                    raise
                except Exception:  # sympy raises of every kind on what it cannot do; the worker is as good as before
                    reply = b"?"
                connection.sendall(b"!" if _refusals else reply)
                _refusals.clear()
    finally:
        os._exit(1)  # e.g. out of memory: the supervisor puts another in its place


def _confine(limits: Limits, supervisor: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)


def _allow_cpu_seconds(seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(usage.ru_utime + usage.ru_stime) + seconds, hard))


_refusals: list[str] = []  # what the answer in hand tried


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse forbidden events, as the audit hook of a worker."""
    compiles_text = event == "compile" and str(arguments[1]).startswith("<") and _caller() not in TEMPLATES
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if compiles_text or writes or event.startswith(FORBIDDEN):
        _refusals.append(event)
        raise PermissionError(f"an answer is mathematics; {event} is not")


def _caller() -> str:
    """Name the module that asked for what the audit hook looks at."""
    return str(sys._getframe(2).f_globals.get("__name__"))


def main(options: dict[str, Any]) -> None:
    """Load, say that it is ready, and keep workers until the parent goes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job: the parent's to deal with
        signal.signal(number, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    sys.dont_write_bytecode = True
    verdicts = os.dup(1)
    os.dup2(2, 1)  # nothing that a library prints may look like a verdict
    from gatepo.rewards.judge import equal

    for gold, prediction in WARM_UP:
        equal(gold, prediction)
    gc.freeze()  # workers share these pages for as long as nobody writes to them
    os.write(verdicts, b"ready\n")
    limits = Limits(memory_bytes=options["memory_bytes"], deadline=options["deadline"])
    Supervisor(limits=limits, most=options["workers"], parent=options["parent"], verdicts=verdicts).run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
