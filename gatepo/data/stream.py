"""The endless, seeded order of training prompts, mixed from several sources."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from gatepo.data.sources import Row


class MixedStream:
    """Rows of several sources in the proportions of their weights; position k always holds the same row.

    Each source is shuffled anew every epoch. Which source comes next is the one that lags its share most, so the mix
    is exact in every stretch of the order and not only on average.

    Args:
      rows: rows by source; only those that are taken are looked at.
      weights: a positive share by source; only proportions count.
      seed: of the run.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]], weights: dict[str, float], seed: int) -> None:
        total = sum(weights.values())
        self._rows = rows
        self._shares = {name: weight / total for name, weight in weights.items()}
        self._seed = seed
        self._position = 0
        self._order = self._walk()

    def take(self, position: int, count: int) -> list[tuple[str, Row]]:
        """Give (source, row) at ``position`` and the ``count - 1`` behind it; any position can be asked for."""
        if position < self._position:
            self._position, self._order = 0, self._walk()
        for _ in range(position - self._position):
            next(self._order)
        self._position = position + count
        return [(name, self._rows[name][index]) for name, index in (next(self._order) for _ in range(count))]

    def _walk(self) -> Iterator[tuple[str, int]]:
        sources = {name: self._shuffled(name) for name in self._shares}
        given = dict.fromkeys(self._shares, 0)
        drawn = 0
        while True:
            drawn += 1
            name = max(self._shares, key=lambda n: self._shares[n] * drawn - given[n])
            given[name] += 1
            yield name, next(sources[name])

    def _shuffled(self, name: str) -> Iterator[int]:
        rng = random.Random(f"{self._seed} {name}")
        order = list(range(len(self._rows[name])))
        while True:
            rng.shuffle(order)
            yield from order
