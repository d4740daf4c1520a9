"""Which of two coordinates says better whether a run collapses: by how well a curve over it predicts a seed unseen.

Axes: S seeds, C cells.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

PRIOR = 3.0  # standard deviation of level and slope, in logits: a curve of separable outcomes has no other bound


def gains(collapsed_SC: np.ndarray, first_C: np.ndarray, second_C: np.ndarray) -> list[float]:
    """Give for each seed the log-likelihood per run that the first coordinate gains over the second, nats.

    P(collapse) = 1 / (1 + exp(-level - slope x)) is fitted to all other seeds' runs, once over each coordinate, and
    predicts this seed's.

    Args:
      collapsed_SC: 1 or 0, NaN for a run that is missing.
      first_C: the coordinate of each cell.
      second_C: the other one.
    """
    likelihoods = [_unseen(collapsed_SC, _standard(x_C)) for x_C in (first_C, second_C)]
    return [first - second for first, second in zip(*likelihoods, strict=True)]


def _standard(x_C: np.ndarray) -> np.ndarray:
    standard: np.ndarray = (x_C - x_C.mean()) / x_C.std()
    return standard


def _unseen(collapsed_SC: np.ndarray, x_C: np.ndarray) -> list[float]:
    """Give the mean log-likelihood of each seed's runs under the curve of all others."""
    x_SC = np.broadcast_to(x_C, collapsed_SC.shape)
    there_SC = ~np.isnan(collapsed_SC)
    found = []
    for seed in range(len(collapsed_SC)):
        others = there_SC & (np.arange(len(collapsed_SC)) != seed)[:, None]
        level, slope = _fitted(x_SC[others], collapsed_SC[others])
        own = there_SC[seed]
        found.append(float(_likelihood(level + slope * x_C[own], collapsed_SC[seed, own]).mean()))
    return found


def _likelihood(logit_M: np.ndarray, collapsed_M: np.ndarray) -> np.ndarray:
    likelihood: np.ndarray = special.log_expit(np.where(collapsed_M == 1, logit_M, -logit_M))
    return likelihood


def _fitted(x_M: np.ndarray, collapsed_M: np.ndarray) -> tuple[float, float]:
    def loss(known: np.ndarray) -> float:
        fit = _likelihood(known[0] + known[1] * x_M, collapsed_M).sum()
        return float(-fit + (known**2).sum() / (2 * PRIOR**2))

    level, slope = optimize.minimize(loss, np.zeros(2), method="BFGS").x
    return float(level), float(slope)
