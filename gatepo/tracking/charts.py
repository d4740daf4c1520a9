"""What W&B, TensorBoard and Trackio have alike: curves, a table of completions now and then, and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gatepo.settings import at_least, setting

OF_LAST_ITERATION = (
    *("eur/passed", "eur/token_mean", "eur/positive", "eur/negative", "eur/ledger/", "kl/sampling"),
    *("ratio/", "clip_ratio/", "coefficient/", "gradient_share/"),
)
COMPLETIONS, FIGURES, SUMMARY, EVALUATION = "completions", "figures/", "summary/", "evaluation/"
_COLUMNS = {"source": "source", "question": "prompt", "completion": "completion", "gold": "answer", "reward": "reward"}


def curves(metrics: Mapping[str, float], iterations: int) -> dict[str, float]:
    """Give what is drawn of an update.

    In the first iteration the policy is pi_old, so that EUR is 1, and a curve of all updates would go up and down
    between that and what is of interest. So EUR, the ratio and what follows from it are those of the last iteration;
    ``eur/iteration_1`` has the other.

    Args:
      metrics: of the update.
      iterations: mu, of a rollout batch.

    >>> curves({"reward": 0.5, "eur": 1.0, "eur/iteration_1": 1.0, "ratio/mean": 1.0}, 2)
    {'reward': 0.5, 'eur/iteration_1': 1.0}
    >>> curves({"eur": 0.9, "eur/iteration_2": 0.9}, 2)
    {'eur': 0.9, 'eur/iteration_2': 0.9}
    """
    if f"eur/iteration_{iterations}" in metrics:
        return dict(metrics)
    return {k: v for k, v in metrics.items() if k != "eur" and not k.startswith(OF_LAST_ITERATION)}


def table(update: int, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Give completions as columns and rows; a prompt that is messages, and what else is no number, as text."""
    parts = list(dict.fromkeys(part for row in rows for part in row["rewards"]))
    cells = [
        [update, *(_cell(row[key]) for key in _COLUMNS), *(row["rewards"].get(part) for part in parts)] for row in rows
    ]
    return ["update", *_COLUMNS.values(), *(f"rewards/{part}" for part in parts)], cells


def flat(values: Mapping[str, Any], prefix: str = "", by: str = "/") -> dict[str, Any]:
    """Give nested dicts as one.

    >>> flat({"eur": {"last": 0.9}, "updates": 2})
    {'eur/last': 0.9, 'updates': 2}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}{by}", by) if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class Screen(Protocol):
    """What a library draws on."""

    def show(self, update: int, values: Mapping[str, float]) -> None:
        """Draw points."""
        ...

    def show_table(self, update: int, columns: list[str], rows: list[list[Any]]) -> None:
        """Show completions."""
        ...

    def show_results(self, update: int, results: Mapping[str, float], figures: Sequence[Path]) -> None:
        """Show what a finished run came to: numbers, and its figures as PNG."""
        ...

    def close(self, finished: bool) -> None:
        """End; ``finished`` says whether the run did."""
        ...


class Charts:
    """A tracker that also takes completions, accuracies and results, and draws them on a screen.

    Args:
      screen: of a library.
      iterations: mu, of a rollout batch.
      completions: in a table.
      every: so many updates lie between two tables at the least.
    """

    def __init__(self, screen: Screen, iterations: int, completions: int, every: int) -> None:
        self._screen, self._iterations, self._completions, self._every = screen, iterations, completions, every
        self._next_table, self._finished = 0, False

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._screen.show(update, curves(metrics, self._iterations))

    def samples(self, update: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        if self._completions and rows and update >= self._next_table:
            self._next_table = update + self._every
            self._screen.show_table(update, *table(update, rows[: self._completions]))

    def accuracy(self, update: int, accuracy: Mapping[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        self._screen.show(update, {f"{EVALUATION}{name}": value for name, value in accuracy.items()})

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """See :class:`~gatepo.tracking.base.ResultsTracker`."""
        numbers = {key: value for key, value in flat(summary, SUMMARY).items() if isinstance(value, int | float)}
        self._screen.show_results(summary["updates"], numbers, figures)
        self._finished = True

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._screen.close(self._finished)


def completions_setting() -> Any:
    """Describe how many completions are shown."""
    return setting("Completions in a table; 0: no tables.", default=8, rule=at_least(0))


def every_setting() -> Any:
    """Describe how often."""
    return setting("Updates between two tables of completions, at the least.", default=20, rule=at_least(1))


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) or value is None else str(value)
