"""What comes out of a run, as one number: read from the files in its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from gatepo.errors import UserError
from gatepo.report.runs import Run

Outcome = Callable[[Run], float]
DEGREE = 3  # of the polynomial in time that is taken away before two curves are correlated
SMOOTHED = 3  # rollout batches whose mean must reach a threshold
SHARE = 5  # "the last fifth"


def outcome(name: str) -> Outcome:
    """Find an outcome by its name.

    Raises:
      UserError: there is none of that name.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    if match := re.fullmatch(r"eur\(iteration ([1-9]\d*)\)", name):
        key = f"eur/iteration_{match[1]}"
        return lambda run: fmean(_logged(run, key))
    if match := re.fullmatch(r"updates_to\(format >= (0?\.\d+|1)\)", name):
        threshold = float(match[1])
        return lambda run: updates_to(run, "rewards/format/mean", threshold)
    raise UserError(
        f"outcome must be one of {', '.join([*_PLAIN, 'eur(iteration K)', 'updates_to(format >= X)'])}, got {name}; "
        "choose one of these"
    )


def last_fifth(value_B: Sequence[float]) -> float:
    """Give the mean over the last fifth of the rollout batches, at least one."""
    return fmean(value_B[-max(1, len(value_B) // SHARE) :])


def collapsed(run: Run) -> float:
    """Say whether the run ended with fewer right answers than it began with, 1 or 0.

    It did where the mean of ``rewards/answer/mean`` over the last fifth of its rollout batches is below that of the
    first batch, which the untrained model answered. The answer's part of the reward, and not its sum with the format's:
    a collapsed run keeps the format perfectly, and would end with a higher sum than it began.
    """
    answer_B = _by_batch(run, "rewards/answer/mean")
    return float(last_fifth(answer_B) < answer_B[0])


def accuracy(run: Run) -> float:
    """Give the share of right answers after training, the mean over all held-out sets; NaN before the run's end."""
    after = [values["after"] for values in run.summary.get("evaluation", {}).values()]
    return fmean(after) if after else math.nan


def updates_to(run: Run, key: str, threshold: float) -> float:
    """Give the updates made when the mean over three rollout batches first reaches a threshold; infinite: it never did.

    The third of them was sampled by the policy after so many updates.
    """
    value_B = _by_batch(run, key)
    for last in range(SMOOTHED - 1, len(value_B)):
        if fmean(value_B[last - SMOOTHED + 1 : last + 1]) >= threshold:
            return float(last * run.iterations)
    return math.inf


def correlation(run: Run) -> float:
    """Give the correlation of entropy and EUR over the run, after what a cubic in time explains is taken from both.

    By rollout batch: the entropy of the policy that sampled it, and the EUR of its last iteration. Raw curves of one
    run correlate by their trends alone. As arctanh of it, which is closer to normal; NaN where one does not vary.
    """
    pairs_B = _pairs(run)
    if len(pairs_B) <= DEGREE + 2:
        return math.nan
    entropy_B, eur_B = (_detrended(values) for values in zip(*pairs_B, strict=True))
    size = float(np.linalg.norm(entropy_B) * np.linalg.norm(eur_B))
    if size < 1e-12:
        return math.nan
    found = float(entropy_B @ eur_B) / size
    return math.atanh(max(-1 + 1e-12, min(found, 1 - 1e-12)))


def _pairs(run: Run) -> list[tuple[float, float]]:
    found, entropy = [], math.nan
    for row in run.metrics:
        entropy = row["entropy"] if "eur/iteration_1" in row else entropy
        if f"eur/iteration_{run.iterations}" in row:
            found.append((entropy, row[f"eur/iteration_{run.iterations}"]))
    return found


def _detrended(values: Sequence[float]) -> np.ndarray:
    value_B = np.asarray(values, dtype=float)
    powers_BD = np.vander(np.linspace(-1, 1, len(value_B)), DEGREE + 1)
    rest_B: np.ndarray = value_B - powers_BD @ np.linalg.lstsq(powers_BD, value_B, rcond=None)[0]
    return rest_B


def _by_batch(run: Run, key: str) -> list[float]:
    """Give a metric of every rollout batch, from the line of its first iteration."""
    return [row[key] for row in run.metrics if "eur/iteration_1" in row and key in row] or [math.nan]


def _logged(run: Run, key: str) -> list[float]:
    return [row[key] for row in run.metrics if key in row] or [math.nan]


_PLAIN: dict[str, Outcome] = {
    "collapsed": collapsed,
    "accuracy": accuracy,
    "eur": lambda run: fmean(_logged(run, "eur")),  # eq. 12 of every update, all iterations alike, over the run
    "entropy": lambda run: last_fifth(_by_batch(run, "entropy")),  # nats per token
    "reward": lambda run: last_fifth(_by_batch(run, "reward")),
    "correlation(entropy, eur)": correlation,
}
