"""Answers that nobody would write: reading them never raises, hangs or leaks."""

import os
import random
import time
from pathlib import Path

import pytest
from test_sandbox import children

from benchmarks.rows import record, row
from gatepo.rewards.equality import settle
from gatepo.rewards.extraction import anywhere
from gatepo.rewards.verifier import Reason, Verifier

EASY = ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}")  # needs algebra, and is equal


FUZZED = int(os.environ.get("GATEPO_FUZZ", "400"))  # `make fuzz` takes 100,000
ATOMS = ["1", "7", "42", "0", "1/2", "0.5", "x", "y", "n", "e", "i", "\\pi", "\\infty", "10^9", "99999", "A", "yes"]
FORMS = [
    *("{}+{}", "{}-{}", "{}{}", "{}/{}", "{}^{}", "{}^{{{}}}", "\\frac{{{}}}{{{}}}", "{}={}", "{}<{}", "{}\\le {}"),
    *("({},{})", "[{},{})", "\\{{{},{}\\}}", "{},{}", "{} or {}", "{}\\cup {}", "{}\\pm {}", "\\binom{{{}}}{{{}}}"),
    *("\\begin{{pmatrix}}{}\\\\{}\\end{{pmatrix}}", "\\int_{{{}}}^{{{}}} x dx", "\\gcd({},{})", "{}_{{{}}}", "{} {}"),
]
WRAPS = [
    *(
        "({})",
        "{{{}}}",
        "-{}",
        "{}!",
        "\\sqrt{{{}}}",
        "\\sin {}",
        "\\log({})",
        "|{}|",
        "\\boxed{{{}}}",
        "${}$",
        "\\({}\\)",
    ),
    *(
        "\\text{{{}}}",
        "{}\\%",
        "{}^\\circ",
        "{} cm",
        "f({})",
        "\\operatorname{{zeros}}({})",
        "\\left({}\\right)",
        "**{}**",
    ),
]
NOISE = [
    "\\",
    "{",
    "}",
    "$",
    "^",
    "_",
    "=",
    ",",
    "\x00",
    "\u200b",
    "\ud800",
    "\u0664",
    "é",
    "__",
    "(",
    ")",
    "\n",
    "!" * 9,
]


def expression(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(ATOMS)
    if rng.random() < 0.4:
        return rng.choice(WRAPS).format(expression(rng, depth - 1))
    return rng.choice(FORMS).format(expression(rng, depth - 1), expression(rng, depth - 1))


def answer(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.2:  # no structure
        return "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x3000)))) for _ in range(rng.randrange(40))
        )
    text = expression(rng, rng.choice((0, 1, 1, 2, 3)))
    if kind < 0.6:
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(NOISE) + text[place + rng.randrange(2) :]
    return text * rng.choice((50, 500)) if kind > 0.99 else text


MORE = """sin log2 km m mph and or of not eggs dx choose mod to percent is \\frac \\sqrt \\sum \\int \\lim
\\pmod \\cup \\pm ^\\circ \\begin{pmatrix} \\end{pmatrix} & \\{ \\} [ ] | + - * / ** < \\le \\in : ½
² √ % °"""
SOUP = [*ATOMS, *NOISE, *MORE.split()]


def test_no_order_of_tokens_makes_reading_raise_or_take_long() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        text = rng.choice(("", " ")).join(rng.choice(SOUP) for _ in range(rng.choice((3, 6, 12, 25, 60))))
        started = time.process_time()
        for gold, prediction in (("x=5", text), (text, "[0,1)")):
            assert settle(gold, prediction) in (True, False, None)
        anywhere(text)
        assert time.process_time() - started < 1.0


def resident(pid: int | str) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_fuzzed_answers_never_crash_hang_or_leak() -> None:
    rng = random.Random(0)
    verifier = Verifier(deadline=0.5, workers=2, memory_mib=768)
    golds = ("7", "\\frac{1}{2}", "\\sqrt{2}", "x^2+1", "(1,2)", "\\{1,2\\}", "yes", "[0,1)", "x=5")
    counts: dict[str, int] = {}
    try:
        assert verifier(*EASY).equal
        supervisor = verifier._pool._supervisor.process.pid  # type: ignore[union-attr]
        ours, theirs, biggest = resident("self"), resident(supervisor), 0.0
        for _ in range(0, FUZZED, 200):
            pairs = [*((rng.choice(golds), answer(rng)) for _ in range(199)), EASY]
            started = time.monotonic()
            verdicts = verifier.verify_many(pairs)
            assert time.monotonic() - started < 199 * 0.5 + 10
            assert verdicts[-1].equal is True
            for verdict in verdicts:
                counts[verdict.reason.value] = counts.get(verdict.reason.value, 0) + 1
            biggest = max([biggest, *map(resident, children(supervisor))])
        grown = f"{resident('self') - ours:.1f} and {resident(supervisor) - theirs:.1f} MiB"
        print(counts, f"grown by {grown}; {biggest:.0f}")
        if FUZZED == 100_000:  # `make fuzz`, whose figures the documents give
            what = {Reason.TIMED_OUT: "timed_out", Reason.KILLED: "killed", Reason.REFUSED: "refused"}
            answers = [row(key, f"answers: {r.value}", counts.get(r.value, 0), FUZZED, "") for r, key in what.items()]
            sizes = [
                row("grown", "growth of this process, against the limit", resident("self") - ours, 64, "MiB"),
                row("keeper", "growth of the keeper, against the limit", resident(supervisor) - theirs, 16, "MiB"),
                row("worker", "the largest worker, against its limit", biggest, 768, "MiB"),
            ]
            assert record("fuzz", answers + sizes, command="make fuzz")
        assert verifier._pool._supervisor.process.pid == supervisor  # type: ignore[union-attr]
        assert resident("self") - ours < 64
        assert resident(supervisor) - theirs < 16
        assert biggest < 768
    finally:
        verifier.close()
