"""Where the seconds of an update go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("rollout", "sync", "reward", "train", "telemetry")
DURING = "during "  # and a part's name, as a note on what was raised in it


class Stopwatch:
    """Adds up seconds by part between laps; what belongs to no part is ``other``."""

    def __init__(self) -> None:
        self._lap_started = time.perf_counter()
        self._seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's seconds under ``name``, one of :data:`PARTS`, and put that on an error's notes."""
        started = time.perf_counter()
        try:
            yield
        except BaseException as error:
            error.add_note(f"{DURING}{name}")
            raise
        self._seconds[name] += time.perf_counter() - started

    def skip(self) -> None:
        """Leave out what happened since the last lap: it belongs to no update."""
        self._lap_started, self._seconds = time.perf_counter(), dict.fromkeys(PARTS, 0.0)

    def lap(self) -> dict[str, float]:
        """Give ``step_time`` and ``time/*`` in seconds since the last lap; the next one begins."""
        now = time.perf_counter()
        total = now - self._lap_started
        times = {"step_time": total} | {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        times["time/other"] = total - sum(self._seconds.values())
        self._lap_started, self._seconds = now, dict.fromkeys(PARTS, 0.0)
        return times
