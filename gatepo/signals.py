"""SIGTERM and SIGINT ask a process to stop: in one line, without a traceback, with exit code 143 or 130.

A process ends at once, unless it is :func:`finishing`: then the first signal is kept in mind, the process looks at it
where it can stop (:func:`stop_if_asked`), and the second signal ends it at once. A thread receives the signals, since
the main thread may be in a call that does not return.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from gatepo.errors import Interrupted

ASKS = (signal.SIGINT, signal.SIGTERM)
FORWARDED = signal.SIGUSR1  # of a parent to those it started; SIGINT and SIGTERM may reach them by themselves too
PAUSE = 0.05  # seconds


@dataclass(slots=True)
class _Process:
    """What this process does about signals."""

    listens: bool = False
    asked: int = 0  # the first signal, while it is finishing
    finishing: bool = False
    children: Callable[[], Sequence[int]] | None = None  # process ids of those that stop with it
    words: Callable[[], str] = lambda: ""  # how to go on
    speaks: bool = True


_own = _Process()


def stopped(number: int) -> str:
    """Say that a signal ended the process."""
    return f"stopped by {signal.Signals(number).name}"


def exit_code(number: int) -> int:
    """Give what a shell shows for a process that a signal ended."""
    return 128 + number


def ended_by(code: int) -> int | None:
    """Give the signal after which a process stopped, by its exit code as :mod:`subprocess` has it, or None."""
    if code == -FORWARDED:  # before it listened
        return signal.SIGTERM
    return next((number for number in ASKS if code in (exit_code(number), -number)), None)


def listen(*, speaks: bool = True) -> None:
    """Deal with signals from now on, for as long as the process lives; in the main thread.

    Args:
      speaks: whether this process says that it stopped; another one does so for it otherwise.
    """
    _own.speaks = speaks
    if _own.listens or threading.current_thread() is not threading.main_thread():
        return
    _own.listens = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*ASKS, FORWARDED):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's & leave SIGINT
            signal.signal(number, lambda *_: None)
    threading.Thread(target=_receive, args=(reading,), daemon=True, name="signals").start()


def say_beside(words: Callable[[], str]) -> None:
    """Set what is said, beside that a signal ended this process, when it ends at once."""
    _own.words = words


@contextmanager
def finishing() -> Iterator[None]:
    """Let the first signal wait until :func:`stop_if_asked`."""
    before, _own.finishing = _own.finishing, True
    try:
        yield
    finally:
        _own.finishing = before


@contextmanager
def passed_on(children: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Pass the first signal on to other processes, which this one waits for; the second one kills them.

    Args:
      children: gives their process ids; none for as long as they have not started.
    """
    _own.children = children
    try:
        with finishing():
            yield
    finally:
        _own.children = None


def asked() -> int:
    """Give the signal by which this process was asked to stop, or 0."""
    return _own.asked


def ask(number: int) -> None:
    """Ask this process to stop, as another one was, unless it was asked already."""
    if number and not _own.asked:
        _own.asked = number


def stop_if_asked() -> None:
    """Leave the work in hand, where that may be.

    Raises:
      Interrupted: this process was asked to stop.
    """
    if _own.asked:
        raise Interrupted(_own.asked)


def leave(number: int, line: str | None) -> NoReturn:
    """End this process without anything else; ``line`` is what it says."""
    if line:
        bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
        behind = "\n" if getattr(bars, "_instances", None) else ""  # a progress bar that is cut off
        print(f"{behind}gatepo: {line}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):  # e.g. a pipe that nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_code(number))


def _receive(reading: int) -> None:
    while True:
        for number in os.read(reading, 64):
            if number in ASKS or (number == FORWARDED and not _own.asked):
                _take(signal.SIGTERM if number == FORWARDED else number)


def _take(number: int) -> None:
    if _own.finishing and not _own.asked:
        _own.asked = number
        if _own.children is not None:
            threading.Thread(target=_pass_on, args=(_own.children,), daemon=True).start()
        return
    for child in _own.children() if _own.children is not None else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    words = _own.words()
    leave(number, "; ".join(filter(None, (stopped(number), words))) if _own.speaks else None)


def _pass_on(children: Callable[[], Sequence[int]]) -> None:
    while not (found := children()):
        time.sleep(PAUSE)
    for child in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, FORWARDED)


def _forget() -> None:
    """In a forked child: what a terminal sends to both must not count twice here."""
    if _own.listens:
        signal.set_wakeup_fd(-1)
        for number in (*ASKS, FORWARDED):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _own.listens, _own.asked = False, 0


os.register_at_fork(after_in_child=_forget)
