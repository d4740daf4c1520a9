"""How far a run is: a bar on a terminal, and a line now and then where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from tqdm import tqdm

from gatepo.measures import ACCURACY, shown

SELDOM, OFTEN = 10.0, 300.0  # seconds that lie between two lines at the least, and at the most
PARTS = 20  # lines of a run


def on_terminal() -> bool:
    """Say whether somebody looks at a bar."""
    return sys.stderr.isatty()


class ProgressTracker:
    """Reward, entropy and EUR over the updates. EUR is that of a rollout batch's last iteration; the first's is 1.

    Args:
      updates: of the run.
      iterations: of a rollout batch.
      done: updates that were done before.
      say: takes a line now and then.
      bar: whether there is a bar beside it.
      clock: gives seconds.
    """

    def __init__(
        self,
        updates: int,
        iterations: int,
        done: int,
        say: Callable[[str], None],
        bar: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._bar = _bar(updates, "train", "update", done) if bar else None
        self._updates, self._iterations, self._done, self._say, self._clock = updates, iterations, done, say, clock
        self._start = self._said_at = clock()
        self._said = self._last = done
        self._last_eur = f"eur/iteration_{iterations}"
        self._shown: dict[str, str] = {}

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._shown |= {"reward": f"{metrics['reward']:.2f}", "entropy": f"{metrics['entropy']:.3f}"}
        if self._last_eur in metrics:
            self._shown["eur"] = f"{metrics[self._last_eur]:.3f}"
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)
            self._bar.update(update - self._bar.n)
        self._last = update
        if self._is_due(update):
            self._line()

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        if self._bar is not None:
            self._bar.close()
        if self._last > self._said:
            self._line()

    def _is_due(self, update: int) -> bool:
        waited = self._clock() - self._said_at
        if self._said == self._done:  # the first, by which a run that goes wrong shows it
            return True
        return waited >= OFTEN or (waited >= SELDOM and (update - self._said) * PARTS >= self._updates)

    def _line(self) -> None:
        now = self._clock()
        took = now - self._start
        done = self._last - self._done
        rest = took / max(1, done) * (self._updates - self._last)
        # The first iteration has the sampling of all: one alone says too much.
        known = f", {_time(rest)} to go" if done >= self._iterations else ""
        figures = ", ".join(f"{name} {value}" for name, value in self._shown.items())
        self._say(f"update {self._last} of {self._updates}: {figures}; {_time(took)} so far{known}")
        self._said, self._said_at = self._last, now


class EvaluationProgress:
    """Problems that are done, while a run evaluates itself.

    Args:
      say: takes a line at each beginning.
      bar: whether there is a bar beside it.
      measures: what comes out (:mod:`gatepo.measures`).
    """

    def __init__(self, say: Callable[[str], None], bar: bool, measures: str = ACCURACY) -> None:
        self._say, self._wanted, self._measures = say, bar, measures
        self._bar: Any = None

    def begin(self, problems: int, own: int) -> None:
        """Begin with so many problems, of which this rank has its ``own``."""
        self._say(f"evaluation of {problems:,} problems" if problems else "no evaluation: data.evaluation is empty")
        self._bar = _bar(own, "evaluation", "problem") if self._wanted else None

    def done(self, problems: int) -> None:
        """Count so many more."""
        if self._bar is not None:
            self._bar.update(problems)

    def end(self, score: dict[str, float]) -> None:
        """Say what came out."""
        if self._bar is not None:
            self._bar.close()
        if score:
            figures = ", ".join(f"{name} {shown(value, self._measures)}" for name, value in score.items())
            self._say(f"{self._measures} {figures}")


def _bar(total: int, name: str, unit: str, done: int = 0) -> Any:
    return tqdm(total=total, initial=done, desc=name, unit=unit, dynamic_ncols=True)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
