"""A run that learns nothing, or runs away, says so, with cause and remedy, by figures that it logs anyway."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from statistics import fmean

log = logging.getLogger(__name__)
FIRST_BATCHES = 3  # after so many rollout batches a run is looked at for the first time
MOSTLY = 0.9  # of the updates, what is called a standstill below
OPEN = 0.999  # an EUR, of a gate that lets all through
EQUAL, STILL, CUT = "frac_reward_zero_std", "grad_norm", "completions/clipped_ratio"
REWARDS_DIFFER = (
    "take problems that are neither always nor never solved, raise batch.num_generations, or look at the answers and "
    "their rewards in completions.jsonl"
)
GATE_IS_OPEN = "look at eur and clip_ratio/region_mean: a smaller tau or another gate lets more through"
SLOPE_IS_ANOTHER = "autograd finds no slope in the gate's value where its slope says there is one: correct the value"
FAR = {"kl/sampling": (1.0, "the policy that sampled the batch"), "kl": (10.0, "the reference")}
"""Nats a token: an update of use leaves hundredths between two policies, and a run of use few from its reference."""
OFTEN = 0.1  # of the updates
NEARER = "lower optimizer.lr, or raise tau or narrow the gate"
LONGER = "raise sampling.max_completion_length, since an unfinished answer seldom earns a reward"


def standstill(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Give a line for each sign that nothing is learned in nine of ten updates, or that in one of ten it runs away.

    Args:
      rows: the metrics of some updates.

    >>> learning, still = ({"frac_reward_zero_std": 0.1, "grad_norm": 0.2, "completions/clipped_ratio": share}
    ...                    for share in (0.5, 1.0))
    >>> standstill([learning] * 3)
    []
    >>> [line[:45] for line in standstill([still] * 3)]
    ['every completion was cut in 3 of 3 updates; r']
    """
    equal, still, cut = (
        [row.get(key) == value for row in rows] for key, value in ((EQUAL, 1.0), (STILL, 0.0), (CUT, 1.0))
    )
    lines = []
    equal_words = "the rewards within every group were equal"
    if _mostly(still) and _mostly(equal):
        reward = fmean(row.get("reward", 0.0) for row in rows)
        cause = f"{equal_words} (mean reward {reward:.4g})"
        lines.append(f"nothing is learned: the gradient was 0 in {_of(still)}, since {cause}; {REWARDS_DIFFER}")
    elif _mostly(still) and _mostly([row.get("eur", 0.0) > OPEN for row in rows]):
        lines.append(f"nothing is learned: the gradient was 0 in {_of(still)}, though eur is 1; {SLOPE_IS_ANOTHER}")
    elif _mostly(still):
        cause = "no token has both an advantage and a slope f' other than 0"
        lines.append(f"nothing is learned: the gradient was 0 in {_of(still)}, since {cause}; {GATE_IS_OPEN}")
    elif _mostly(equal):
        lines.append(f"{equal_words} in {_of(equal)}: no group says which answer is better; {REWARDS_DIFFER}")
    if _mostly(cut):
        lines.append(f"every completion was cut in {_of(cut)}; {LONGER}")
    return [*lines, *_too_far(rows)]


def _too_far(rows: Sequence[Mapping[str, float]]) -> list[str]:
    lines = []
    for key, (limit, other) in FAR.items():
        far = [abs(row.get(key, 0.0)) > limit for row in rows]
        if sum(far) > OFTEN * len(far):
            most = max(abs(row.get(key, 0.0)) for row in rows)
            lines.append(
                f"{key} was above {limit:g} nats a token in {_of(far)}, {most:.3g} at most: the policy runs away from "
                f"{other}; {NEARER}"
            )
    return lines


class FirstBatches:
    """A tracker that looks at the first rollout batches of a run, or of one that goes on, and warns once."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._batches = 0  # begun

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        if self._batches == FIRST_BATCHES:
            return
        self._rows.append(metrics)
        self._batches += "eur/iteration_1" in metrics
        if self._batches == FIRST_BATCHES:
            warn(self._rows)

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`; the end of a run looks at all of its updates."""


def warn(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Log what :func:`standstill` finds, and give it."""
    lines = standstill(rows)
    for line in lines:
        log.warning(line)
    return lines


def _mostly(held: Sequence[bool]) -> bool:
    return len(held) > 0 and sum(held) >= MOSTLY * len(held)


def _of(held: Sequence[bool]) -> str:
    return f"{sum(held)} of {len(held)} updates"
