"""A run's evaluations of itself: before it, at every so many updates, and at its end."""

from __future__ import annotations

from time import perf_counter

from gatepo.evaluate.loop import Evaluator
from gatepo.loop import Algorithm
from gatepo.state import RunState


class Evaluations:
    """A hook that adds ``evaluation/NAME`` to the metrics of every ``every``-th update, and the evaluation at the end.

    It has to be the first hook: it may be cut off, and the hooks of this update are then called again.

    Args:
      evaluate: measures the sets under the sampler's weights.
      algorithm: whose sampler it is.
      every: 0 is never.
    """

    def __init__(self, evaluate: Evaluator, algorithm: Algorithm, every: int) -> None:
        self._evaluate, self._algorithm, self._every = evaluate, algorithm, every
        self._newest: tuple[int, dict[str, float]] | None = None

    def __call__(self, state: RunState, metrics: dict[str, float]) -> None:
        """See :data:`gatepo.loop.Hook`."""
        if not self._every or state.update % self._every:
            return
        state.unwritten = metrics
        started = perf_counter()
        score = self._of(state)
        metrics |= {f"evaluation/{name}": value for name, value in score.items()}
        self._algorithm.rollout.sleep()  # as after every rollout batch
        metrics["time/evaluation"] = perf_counter() - started
        state.unwritten = None
        self._newest = state.update, score

    def after(self, state: RunState) -> tuple[dict[str, float], bool]:
        """Give each set's score at the end, and whether it is new: else the last update's metrics have it already."""
        if self._newest is not None and self._newest[0] == state.update:
            return self._newest[1], False
        return self._of(state), True

    def _of(self, state: RunState) -> dict[str, float]:
        self._algorithm.rollout.wake()
        self._algorithm.sync(state.update)
        return self._evaluate()
