"""What follows a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from gatepo.settings import option


class Tracker(Protocol):
    """A tracker receives every update's metrics under the same keys, in order."""

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """Take the metrics of an update; ``update`` counts optimizer steps from 1."""
        ...

    def close(self) -> None:
        """End: the run is over."""
        ...


class TrackerOption(Protocol):
    """What is chosen by ``tracker=NAME``: a tracker beside metrics.jsonl, which is written in any case."""

    def start(self, folder: Path, config: dict[str, Any]) -> Tracker | None:
        """Make the tracker.

        Args:
          folder: of the run.
          config: the resolved config as nested dicts.
        """
        ...


@option("tracker", "none")
class NoTracker:
    """metrics.jsonl only."""

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        """See :class:`TrackerOption`."""
