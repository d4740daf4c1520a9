"""Hostile answers, and the processes that read answers: what they may cost, and that they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPO

from gatepo.rewards.pool import Pool, default_workers
from gatepo.rewards.sandbox import KILLED, TIMED_OUT, Limits
from gatepo.rewards.verifier import Reason, Verifier

EASY = ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}")  # needs algebra, and is equal
ENDLESS = "\\sum_{n=1}^{10^9} \\frac{1}{n}"
HUNGRY = ("x+y+z+t=1", "(x+y+z+t+1)^{50}=1")  # 300,000 terms


@pytest.fixture(scope="module")
def verify() -> Iterator[Verifier]:
    verifier = Verifier(deadline=10.0, workers=2)
    yield verifier
    verifier.close()


@pytest.fixture(scope="module")
def hurried() -> Iterator[Verifier]:
    verifier = Verifier(deadline=0.5, workers=2, memory_mib=768)
    yield verifier
    verifier.close()


HOSTILE = {
    "spaces": "x" + " " * 480 + "(" + " " * 480 + "a const",
    "spaces before a rounded value": "x," + " " * 440 + ", or about" + " " * 440 + "y",
    "tower": "9**9**9**9",
    "latex tower": "5^{5^{5^{5^5}}}",
    "factorials": "((((9!)!)!)!)!",
    "import": "__import__('os').system('x')",
    "subclasses": "().__class__.__base__.__subclasses__()",
    "zeros": "\\operatorname{zeros}(99999,99999)",
    "gcd": "\\gcd(" + "7" * 10**6 + "," + "3" * 10**6 + ")",
    "division by zero": "\\frac{1}{0}",
    "nan": "NaN",
    "infinity less infinity": "\\infty-\\infty",
    "exponent": "1e999999999",
    "digits": "9" * 10**6,
    "letters": "a" * 10**6,
    "open braces": "{" * 10**4,
    "parentheses": "(" * 10**4 + "7" + ")" * 10**4,
    "unclosed box": "\\boxed{7",
    "displays": "\\[ x " * 8000,
    "answer tags": "<answer>" * 10**4,
    "line": "(-\\infty,\\infty)",
    "sum": "\\sum_{n=1}^{10^9} 1/n",
    "sum of fractions": ENDLESS,
    "integral": "\\int e^{e^{e^x}}dx",
    "evaluation": "sin(7**exp(exp(exp(10*E))))+1",
    "latex evaluation": "\\sin(7^{e^{e^{e^{10 e}}}})+1",
    "product": "\\prod_{n=1}^{10^9} n",
    "binomial": "\\binom{10^9}{5\\cdot 10^8}",
    "matrix power": "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}^{999999999}",
    "minus": "-" * 990 + "7",
    "powers": "2^" * 490 + "2",
    "lists in two ways": "2\\frac{1}{" * 28 + "1" + "}" * 28,
    "sets in two ways": "\\{" * 28 + "x|x" + "\\}" * 28,
    "arabic digits": "\u0667",
    "fullwidth digits": "\uff17",
    "nul": "\x007",
    "lone surrogate": "7\ud800",
    "direction marks": "\u202e7\u202c",
    "zero-width space": "7\u200b",
    "zero-width joiner": "\u200d7",
    "nothing visible": "\u2060",
}


@pytest.mark.parametrize("gold", ["7", "\\sqrt{2}"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_scores_nothing_in_time_and_harms_nobody(hurried: Verifier, text: str, gold: str) -> None:
    hurried(*EASY)  # the workers are there: starting them is not the answer's time
    started = time.monotonic()
    assert hurried(gold, text).equal is False
    assert time.monotonic() - started < 1.5 * 0.5 + 5.0 + 10 * 0.5  # 0.5 s of CPU time, on however busy a machine
    assert hurried(*EASY).equal is True


def test_a_late_answer_costs_its_neighbours_nothing(hurried: Verifier) -> None:
    easy = [(f"\\frac{{\\sqrt{{{n}}}}}{{{n}}}", f"1/\\sqrt{{{n}}}") for n in (2, 3, 5, 6, 7, 10, 11, 13)]
    pairs = [*easy[:4], ("7", ENDLESS), ("8", ENDLESS), *easy[4:], ("7", None)]
    verdicts = hurried.verify_many(pairs)
    reasons = [Reason.ALGEBRA] * 4 + [Reason.TIMED_OUT] * 2 + [Reason.ALGEBRA] * 4 + [Reason.NO_ANSWER]
    assert [verdict.reason for verdict in verdicts] == reasons
    assert [verdict.equal for verdict in verdicts] == [True] * 4 + [False] * 2 + [True] * 4 + [False]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_a_worker_that_takes_too_much_memory_is_replaced(verify: Verifier) -> None:
    assert verify(*EASY).equal is True
    space = int(Path(f"/proc/{verify._pool._supervisor.process.pid}/statm").read_text().split()[0])  # type: ignore[union-attr]
    pool = Pool(1, Limits(memory_bytes=space * os.sysconf("SC_PAGE_SIZE") + (10 << 20), deadline=20.0))
    try:
        assert pool.ask([EASY, HUNGRY, EASY]) == ["equal", KILLED, "equal"]
    finally:
        pool.close()


def test_cpu_time_ends_a_worker_that_nobody_ends() -> None:
    code = "from gatepo.rewards.sandbox import _allow_cpu_seconds as allow\nallow(1)\nwhile True: pass"
    started = time.monotonic()
    assert run_python(code).returncode == -signal.SIGXCPU
    assert time.monotonic() - started < 60


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nothing_that_an_answer_says_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    sympys = "import sys; from sympy.parsing import parse_expr; parse_expr(sys.argv[1])"
    run_python(sympys, code)
    assert canary.exists(), "sympy's parser runs what it reads: the canary is alive"
    canary.unlink()
    refused = run_python(
        f"import sys; from gatepo.rewards import sandbox; sys.addaudithook(sandbox._refuse); {sympys}", code
    )
    assert "PermissionError: an answer is mathematics; compile is not" in refused.stderr
    for code_that_acts, event in (
        (f"open({str(canary)!r}, 'w')", "open"),
        ("__import__('os').system('true')", "os.system"),
    ):
        refused = run_python(
            f"import sys; from gatepo.rewards import sandbox; sys.addaudithook(sandbox._refuse); {code_that_acts}"
        )
        assert f"PermissionError: an answer is mathematics; {event} is not" in refused.stderr
    pool = Pool(1, Limits(memory_bytes=1 << 30, deadline=20.0))  # behind the verifier's own look at the text
    try:
        texts = (
            code,
            f"${code}$",
            f"\\text{{{code}}}",
            f"1+{code}",
            f"\\operatorname{{{code}}}",
            code.replace("_", "\\_"),
        )
        assert set(pool.ask([(gold, text) for text in texts for gold in ("2", "x+1")])) == {"different"}
    finally:
        pool.close()
    assert not canary.exists()


STUCK = """
import os, sys, threading, time
from gatepo.rewards.verifier import Verifier
verify = Verifier(deadline=600.0, workers=2)
verify("\\\\sqrt{8}", "2\\\\sqrt{2}")
print(verify._pool._supervisor.process.pid, flush=True)
if os.fork() == 0:  # it holds its parent's end of the supervisor's pipe: no end of file tells that the parent is gone
    os.close(1)
    time.sleep(15)
    os._exit(0)
pairs = [("7", "\\\\sum_{n=1}^{10^9} \\\\frac{1}{n}"), ("7", "\\\\prod_{n=1}^{10^9} n")]
verify.verify_many(pairs)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: object, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("victim", ["parent", "supervisor"])
def test_no_process_outlives_a_sigkill(victim: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(REPO)}, text=True
    )
    try:
        assert parent.stdout is not None
        supervisor = int(parent.stdout.readline())
        assert wait_until(lambda: len(children(supervisor)) == 2)
        workers = children(supervisor)
        time.sleep(0.5)  # both are busy
        os.kill(parent.pid if victim == "parent" else supervisor, signal.SIGKILL)
        assert wait_until(lambda: not any(map(is_running, [supervisor, *workers])), 10.0)
    finally:
        parent.kill()
        parent.communicate()


def test_a_dead_supervisor_is_replaced() -> None:
    pool = Pool(1, Limits(memory_bytes=1 << 30, deadline=2.0))
    try:
        assert pool.ask([EASY]) == ["equal"]
        assert pool._supervisor is not None
        threading.Timer(0.5, pool._supervisor.process.kill).start()
        assert pool.ask([("7", ENDLESS), EASY, ("x+1", "1+x")]) == [TIMED_OUT, "equal", "equal"]
        assert pool.ask([EASY]) == ["equal"]
    finally:
        pool.close()


def test_any_thread_may_ask_and_end(verify: Verifier) -> None:
    found: dict[int, list[bool]] = {}

    def ask(n: int) -> None:
        pairs = [(f"\\sqrt{{{n * n * k}}}", f"{n}\\sqrt{{{k}}}") for k in (2, 3, 5)] + [("x", f"x+{n}")]
        found[n] = [verdict.equal for verdict in verify.verify_many(pairs)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [True, True, True, False] for n in range(2, 10)}


def test_the_thread_that_started_the_workers_may_end_before_them() -> None:
    verifier = Verifier(deadline=20.0, workers=1)
    try:
        thread = threading.Thread(target=lambda: verifier(*EASY))
        thread.start()
        thread.join()
        assert verifier(*EASY).equal is True
    finally:
        verifier.close()


FORKED = """
import os, sys, threading, time
from gatepo.rewards.verifier import Verifier
verify = Verifier(deadline=3.0, workers=1)
assert verify("\\\\sqrt{8}", "2\\\\sqrt{2}").equal
supervisor = verify._pool._supervisor.process.pid
busy = threading.Thread(target=verify, args=("7", "\\\\sum_{n=1}^{10^9} \\\\frac{1}{n}"))
busy.start()
time.sleep(0.5)
child = os.fork()
if child == 0:
    right = verify("\\\\sqrt{8}", "2\\\\sqrt{2}").equal and verify._pool._supervisor.process.pid != supervisor
    verify.close()
    os._exit(0 if right else 1)
busy.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert verify("\\\\sqrt{8}", "2\\\\sqrt{2}").equal and verify._pool._supervisor.process.pid == supervisor
verify.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_asks_workers_of_its_own_whatever_its_parent_was_doing() -> None:
    done = run_python(FORKED)
    assert done.returncode == 0, done.stderr


def test_ranks_of_one_host_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers() == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert default_workers() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert default_workers() == 1
