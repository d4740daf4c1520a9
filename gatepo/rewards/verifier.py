"""Whether an answer is right (eq. 11): by its tree where that decides it, else by sympy in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gatepo.rewards.equality import settle
from gatepo.rewards.pool import Pool, default_workers
from gatepo.rewards.sandbox import DIFFERENT, EQUAL, FAILED, KILLED, REFUSED, TIMED_OUT, Limits
from gatepo.rewards.tokens import unreadable


class Reason(Enum):
    """What a verdict rests on."""

    SPELLING = "spelling"  # numbers, lists and texts compared exactly
    ALGEBRA = "algebra"  # sympy
    NO_ANSWER = "no answer"
    UNREADABLE = "unreadable"  # too long, nested too deep, invisible characters, code
    FAILED = FAILED  # a library raised on it
    REFUSED = REFUSED  # a library tried to run, write or connect to something on its account
    TIMED_OUT = TIMED_OUT
    KILLED = KILLED  # the worker broke its memory or CPU limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an answer is right, and why."""

    equal: bool
    reason: Reason


class Verifier:
    """Compares answers with gold answers; from any thread.

    Args:
      deadline: seconds of CPU time for one answer. One that needs more is wrong and its worker is replaced.
      workers: processes; null takes one per core of this rank, at most 4. They start when an answer needs them.
      memory_mib: of one worker, MiB.
    """

    def __init__(self, *, deadline: float, workers: int | None = None, memory_mib: int = 1024) -> None:
        limits = Limits(memory_bytes=memory_mib << 20, deadline=deadline)
        self._pool = Pool(workers or default_workers(), limits)

    def __call__(self, gold: str, prediction: str | None) -> Verdict:
        """Give one verdict."""
        return self.verify_many([(gold, prediction)])[0]

    def verify_many(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        """Give a verdict for each (gold, prediction), in their order; None is a response without an answer.

        Never raises on account of what the texts say. Equal pairs are judged once.
        """
        verdicts = {pair: _settled(*pair) for pair in pairs}
        unknown = [(gold, text) for (gold, text), verdict in verdicts.items() if verdict is None and text is not None]
        for pair, said in zip(unknown, self._pool.ask(unknown) if unknown else (), strict=True):
            reason = Reason.ALGEBRA if said in (EQUAL, DIFFERENT) else Reason(said)
            verdicts[pair] = Verdict(equal=said == EQUAL, reason=reason)
        return [verdict for verdict in map(verdicts.__getitem__, pairs) if verdict is not None]

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()


def _settled(gold: str, prediction: str | None) -> Verdict | None:
    """Give the verdict that needs no worker, or None."""
    if prediction is None or not prediction.strip():
        return Verdict(equal=False, reason=Reason.NO_ANSWER)
    if gold.strip() != prediction.strip() and unreadable(prediction) is not None:
        return Verdict(equal=False, reason=Reason.UNREADABLE)
    equal = settle(gold, prediction)
    return None if equal is None else Verdict(equal=equal, reason=Reason.SPELLING)
