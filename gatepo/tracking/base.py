"""What follows a run."""

from __future__ import annotations

from typing import Protocol


class Tracker(Protocol):
    """Receives every update's metrics under the same keys, in order."""

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """``update`` counts optimizer steps from 1."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...
