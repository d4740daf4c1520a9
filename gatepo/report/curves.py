"""Curves that can be drawn: a mean per bin of updates, then mean and range over the runs of a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gatepo.report.runs import Run

BINS = 100  # at most so many points of a curve
REACH = 2  # bins on each side that the running mean takes in


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One metric along the updates. ``low`` and ``high`` are the least and the largest of several runs."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


class Curves:
    """The curves of some runs, each computed once.

    All points lie in the same bins of updates: whole rollout batches, so that a point holds as much of each iteration.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)
        self._longest = max((int(run.metrics[-1]["update"]) for run in runs), default=1)
        self.of_run = lru_cache(maxsize=None)(self._of_run)

    def width(self, run: Run) -> int:
        """Give the updates that one point stands for."""
        return max(1, math.ceil(self._longest / BINS / run.iterations)) * run.iterations

    def widths(self) -> list[int]:
        """List all widths of bins that there are; several where mu differs between runs."""
        return sorted({self.width(run) for run in self._runs})

    def _of_run(self, place: int, key: str) -> Curve:
        """Give the curve of one run: the mean of each bin, then the centred running mean over five bins."""
        run = self._runs[place]
        found = [(update, value) for update, value in zip(*run.series(key), strict=True) if math.isfinite(value)]
        if not found:
            return Curve(x=[], y=[], low=[], high=[])
        width = self.width(run)
        bin_U = np.asarray([(update - 1) // width for update, _ in found])
        count, total = np.bincount(bin_U), np.bincount(bin_U, weights=[value for _, value in found])
        there = np.flatnonzero(count)
        y = running_mean((total[there] / count[there]).tolist())
        x = (there * width + (width + 1) / 2).tolist()
        return Curve(x=x, y=y, low=y, high=y)

    def of_group(self, places: Sequence[int], key: str) -> Curve:
        """Give mean and range over runs; where some are shorter, over those that reached the update."""
        points: dict[float, list[float]] = {}
        for place in places:
            curve = self.of_run(place, key)
            for x, y in zip(curve.x, curve.y, strict=True):
                points.setdefault(x, []).append(y)
        reached = sorted(points)
        return Curve(
            x=reached,
            y=[math.fsum(points[at]) / len(points[at]) for at in reached],
            low=[min(points[at]) for at in reached],
            high=[max(points[at]) for at in reached],
        )


def running_mean(values: Sequence[float], reach: int = REACH) -> list[float]:
    """Compute the centred running mean, which does not lag; the window shrinks towards both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    near = np.minimum(np.minimum(reach, places), len(values) - 1 - places)
    mean: list[float] = ((sums[places + near + 1] - sums[places - near]) / (2 * near + 1)).tolist()
    return mean
