"""Several trackers at once, ``'tracker=[wandb,tensorboard]'``, and what a run says to those that were chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gatepo.settings import option, setting
from gatepo.tracking.base import ResultsTracker, Tracker, TrackerOption, require_installed

KEY, EACH = "tracker=", "tracker.each"


@option("tracker", "several")
class Several:
    """Several trackers: 'tracker=[wandb,tensorboard]', with tracker.wandb.mode=online."""

    each: dict[str, Any] = setting("The trackers, by name.", default_factory=dict, each="tracker")

    def require_installed(self) -> None:
        """See :class:`~gatepo.tracking.base.NeedsPackage`."""
        for one in self.each.values():
            require_installed(one)

    def start(self, folder: Path, config: dict[str, Any]) -> Trackers:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        return Trackers(list(self.each.values()), folder, config)


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


def spelled_out(words: list[str], outside: Callable[[str], None] = lambda path: None) -> list[str]:
    """Replace ``tracker=[A,B]`` by the words that Hydra reads, and ``tracker.A.KEY`` by the key of a setting of A.

    Args:
      words: of the command line.
      outside: makes a class from outside, module.Class, known as an option.

    >>> spelled_out(["tracker=[wandb,none]", "tracker.wandb.mode=online"])[2:]
    ['+tracker@tracker.each.none=none', 'tracker.each.wandb.mode=online']
    """
    listed = [word for word in words if re.fullmatch(r"tracker=\[.*\]", word)]
    if not listed:
        return words
    entries = [entry.strip().strip("'\"") for entry in listed[-1].removeprefix(KEY).strip("[]").split(",")]
    named = {entry.rpartition(".")[2]: entry for entry in entries if entry}
    own = re.compile(rf"tracker\.(?=({'|'.join(map(re.escape, named))})\.)")
    for path in (entry for entry in named.values() if "." in entry):
        outside(path)
    found = [f"{KEY}several", *(f"+tracker@{EACH}.{name}={entry}" for name, entry in named.items())]
    return [*found, *(own.sub(f"{EACH}.", word, count=1) for word in words if word not in listed)]
