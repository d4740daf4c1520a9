"""What a run says to the trackers that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gatepo.tracking.base import ResultsTracker, Tracker, TrackerOption


class Trackers:
    """Trackers that take what they can of a run; with none of them it does nothing.

    Args:
      chosen: their options.
      folder: of the run.
      config: the resolved config as nested dicts.
    """

    def __init__(self, chosen: Sequence[TrackerOption], folder: Path, config: dict[str, Any]) -> None:
        self._all: list[Tracker] = []
        with ExitStack() as begun:  # where one cannot start, the others end
            for one in chosen:
                made = one.start(folder, config)
                if made is not None:
                    self._all.append(made)
                    begun.callback(made.close)
            begun.pop_all()
        self._open = list(self._all)

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        for tracker in self._all:
            tracker.log(update, metrics)

    def samples(self, update: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        for tracker in self._with_results():
            tracker.samples(update, rows)

    def accuracy(self, update: int, accuracy: Mapping[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        for tracker in self._with_results():
            tracker.accuracy(update, accuracy)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        for tracker in self._with_results():
            tracker.finish(summary, figures)

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`; a second time does nothing."""
        with ExitStack() as rest:
            while self._open:
                rest.callback(self._open.pop().close)

    def _with_results(self) -> list[ResultsTracker]:
        return [tracker for tracker in self._all if isinstance(tracker, ResultsTracker)]
