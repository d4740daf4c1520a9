"""Verdicts do not depend on how busy the machine is: a worker without CPU time, or gone, costs its answer nothing."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepo.rewards.pool import Pool
from gatepo.rewards.sandbox import EQUAL, TIMED_OUT, Limits

EASY = ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}")  # needs a worker, and is equal
PAIRS = [EASY, ("x^2+2x+1", "(x+1)^2"), ("\\sqrt{12}", "2\\sqrt{3}")]
ENDLESS = ("7", "\\sum_{n=1}^{10^9} \\frac{1}{n}")

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1, Limits(memory_bytes=1 << 30, deadline=1.0))
    assert made.ask([EASY]) == [EQUAL]
    yield made
    made.close()


def worker_of(pool: Pool) -> int:
    assert pool._supervisor is not None
    process = pool._supervisor.process.pid
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[-1])


def test_an_answer_whose_worker_was_stopped_is_asked_again(pool: Pool) -> None:
    os.kill(worker_of(pool), signal.SIGSTOP)
    assert pool.ask(PAIRS) == [EQUAL] * 3


def test_an_answer_whose_worker_was_killed_is_asked_again(pool: Pool) -> None:
    worker = worker_of(pool)
    os.kill(worker, signal.SIGSTOP)
    threading.Timer(0.2, os.kill, (worker, signal.SIGKILL)).start()
    assert pool.ask(PAIRS) == [EQUAL] * 3


def test_an_answer_whose_supervisor_was_killed_is_asked_again(pool: Pool) -> None:
    assert pool._supervisor is not None
    os.kill(worker_of(pool), signal.SIGSTOP)
    threading.Timer(0.2, pool._supervisor.process.kill).start()
    assert pool.ask(PAIRS) == [EQUAL] * 3


def test_an_answer_that_burns_its_time_is_not_asked_again(pool: Pool) -> None:
    started = time.monotonic()
    assert pool.ask([ENDLESS]) == [TIMED_OUT]
    assert time.monotonic() - started < 5.0 + 10 * 1.0


def test_an_answer_that_would_burn_its_time_is_asked_once_more_and_no_longer_than_its_time(pool: Pool) -> None:
    os.kill(worker_of(pool), signal.SIGSTOP)
    started = time.monotonic()
    assert pool.ask([ENDLESS, EASY]) == [TIMED_OUT, EQUAL]
    assert time.monotonic() - started < 2 * (5.0 + 10 * 1.0)


def test_an_answer_gets_its_cpu_time_however_slow_the_clock_on_the_wall_makes_it_look() -> None:
    """A worker that runs a sixth of the time answers right what then takes longer than its deadline."""
    pool = Pool(1, Limits(memory_bytes=1 << 30, deadline=3.0))
    assert pool.ask([EASY]) == [EQUAL]
    slow = ("\\frac{(n-1)!}{k!} \\frac{n}{(n-k)!}", "\\frac{n!}{k!(n-k)!}")
    ended = threading.Event()

    def hold_up() -> None:
        while not ended.wait(0.1):
            worker = worker_of(pool)
            for sign, seconds in ((signal.SIGSTOP, 0.5), (signal.SIGCONT, 0.0)):
                try:
                    os.kill(worker, sign)
                except ProcessLookupError:
                    break
                time.sleep(seconds)

    thread = threading.Thread(target=hold_up)
    thread.start()
    try:
        assert pool.ask([slow, EASY]) == [EQUAL] * 2
    finally:
        ended.set()
        thread.join()
        pool.close()
