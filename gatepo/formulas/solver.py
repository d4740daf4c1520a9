"""sympy runs in a process of its own, with a deadline for each question and a limit on its memory.

An integral, a limit or a root may take sympy forever. Nothing that it fails to answer is wrong: a value is then
integrated numerically and a property checked on a grid, and the caller says so.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from functools import lru_cache
from typing import Any

DEADLINE = 20.0  # seconds for one question
START = 60.0  # seconds that importing sympy may take on a busy machine
MEMORY = 4 << 30  # bytes of address space

log = logging.getLogger(__name__)
Question = tuple[str, str]  # ("numbers", "values", "half_widths", "simpler" or "properties"; the formula)


@lru_cache(maxsize=256)
def ask(*questions: Question, deadline: float = DEADLINE) -> tuple[Any, ...]:
    """Answer the questions in order, by the functions of this folder; None for each that took over ``deadline`` s.

    The log says so first, because a formula that sympy cannot solve takes all of its time.
    """
    if not questions:
        return ()
    formulas = list(dict.fromkeys(formula for _, formula in questions))
    what = formulas[0] if len(formulas) == 1 else f"{len(formulas)} formulas"
    log.info("sympy looks at %s: %d questions of at most %g s each", what, len(questions), deadline)
    command = [sys.executable, "-m", "gatepo.formulas.solver", str(deadline)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(questions),
            capture_output=True,
            text=True,
            timeout=START + deadline * len(questions),
            env=environment,
            check=False,
        )
        lines, trouble = done.stdout.splitlines(), done.stderr
    except subprocess.TimeoutExpired as error:  # a single call into compiled code, which no signal interrupts
        lines, trouble = (error.stdout or b"").decode().splitlines(), ""
    answers = [json.loads(line) for line in lines]
    assert answers or not trouble, trouble
    return (*answers, *[None] * (len(questions) - len(answers)))


class _Deadline(BaseException):
    """Not an Exception, so that sympy does not catch it."""


def _answer(kind: str, formula: str, deadline: float) -> Any:
    from gatepo.formulas import derive, exact, proofs

    functions = {
        "numbers": exact.numbers,
        "values": derive.values,
        "half_widths": derive.half_widths,
        "simpler": derive.simpler,
        "properties": proofs.properties,
    }
    try:
        signal.setitimer(signal.ITIMER_REAL, deadline)
        return functions[kind](formula)
    except (_Deadline, Exception):  # sympy gives up with errors of every kind
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(*_: object) -> None:
    raise _Deadline


def main() -> None:
    """Answer the questions on standard input, one line of JSON each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _stop)
    for kind, formula in json.load(sys.stdin):
        print(json.dumps(_answer(kind, formula, float(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
