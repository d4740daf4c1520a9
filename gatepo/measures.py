"""What an evaluation measures: accuracy where answers are graded, else the mean of a reward of the user's own."""

from __future__ import annotations

ACCURACY = "accuracy"


def shown(value: float, measures: str) -> str:
    """Write it: accuracy as 73.4%, the mean of a reward as the number that it is."""
    return f"{100 * value:.1f}%" if measures == ACCURACY else f"{value:.3f}"
