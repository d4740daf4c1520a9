"""What a number of right answers says, and how sure it is. Numbers in, numbers out.

Axes: P problems, K completions of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np

Z = NormalDist().inv_cdf(0.975)  # of a 95% interval, 1.960


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A fraction or a mean with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(fraction: float, trials: float) -> Estimate:
    """Give the score interval of a binomial fraction (Wilson 1927).

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Args:
      fraction: p, of successes, in [0, 1].
      trials: n > 0; an effective number need not be whole.
    """
    shrink = 1 + Z**2 / trials
    middle = (fraction + Z**2 / (2 * trials)) / shrink
    half = Z / shrink * math.sqrt(fraction * (1 - fraction) / trials + Z**2 / (4 * trials**2))
    # At p = 0 and p = 1 the bounds are p itself; rounding must not put them beyond it.
    return Estimate(
        value=fraction, low=max(0.0, min(middle - half, fraction)), high=min(1.0, max(middle + half, fraction))
    )


def clustered(value_PK: Sequence[Sequence[float]]) -> Estimate:
    """Give mean of 0/1 values with a Wilson interval at its effective number of trials, the problem being the cluster.

    n = p (1 - p) / SE^2 with SE^2 = sum_i (p_i - p)^2 / P^2, p_i being the mean of problem i. It is P where K = 1
    (Wilson's own interval) or where the completions of a problem all agree, and at most P K. Where p is 0 or 1, SE says
    nothing and n is P.

    Args:
      value_PK: 0 or 1; every problem has as many.
    Source: the clustered standard error of Miller 2024 (arXiv:2411.00640, section 2.2) for clusters of equal size; its
      use in Wilson's formula is that of Korn and Graubard 1998 for survey data.
    """
    mean_P = [fmean(row) for row in value_PK]
    mean = fmean(mean_P)
    squared_error = math.fsum((m - mean) ** 2 for m in mean_P) / len(mean_P) ** 2
    most = len(mean_P) * len(value_PK[0])
    trials = mean * (1 - mean) / squared_error if squared_error > 0 else (len(mean_P) if mean in (0, 1) else most)
    return wilson(mean, min(trials, most))


def pass_at(k: int, right: int, samples: int) -> float:
    """Give chance that at least one of k completions, drawn without replacement from ``samples``, is right.

    pass@k = 1 - C(n - c, k) / C(n, k); unbiased for k fresh completions.

    Args:
      k: at most ``samples``.
      right: c, right ones among them.
      samples: n.
    Source: Chen et al. 2021 (arXiv:2107.03374), eq. 1.
    """
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def mean_score(value_P: Sequence[float]) -> Estimate:
    """Give mean of any numbers with its normal 95% interval, mean -+ z SD / sqrt(P), SD with P - 1.

    Args:
      value_P: by problem, the mean over its completions, which makes the problem the cluster (Miller 2024, section
        2.2). Of a single one nothing is known but itself: the interval is all numbers.
    """
    mean = fmean(value_P)
    if len(value_P) == 1:
        return Estimate(value=mean, low=-math.inf, high=math.inf)
    variance = math.fsum((value - mean) ** 2 for value in value_P) / (len(value_P) - 1)
    half = Z * math.sqrt(variance / len(value_P))
    return Estimate(value=mean, low=mean - half, high=mean + half)


def mean_difference(difference_P: Sequence[float]) -> Estimate:
    """Give mean of paired differences of fractions with its normal 95% interval, mean -+ z SD / sqrt(P), SD with P - 1.

    Args:
      difference_P: by problem, in [-1, 1]; so is the interval, and it is all of that for a single problem.
    Source: the paired standard error of Miller 2024 (arXiv:2411.00640, section 4).
    """
    found = mean_score(difference_P)
    return Estimate(value=found.value, low=max(-1.0, found.low), high=min(1.0, found.high))


def paired_p_value(difference_P: Sequence[int]) -> float:
    """Give the chance of a sum as far from 0, were the sign of every difference a toss of a coin; exact, two-sided.

    Where each difference is -1, 0 or 1 (one completion per problem) it is McNemar's exact test: problems on which both
    agree do not count, the others follow Binomial(n, 1/2).

    Args:
      difference_P: by problem, right answers of one model minus those of the other, among as many.
    Returns: p in (0, 1].
    Source: Fisher 1935, The Design of Experiments, section 21; the whole distribution is summed up, difference by
      difference, so nothing is drawn at random.
    """
    steps = [abs(d) for d in difference_P if d]
    reach = sum(steps)
    chance_S = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance_S[reach] = 1.0
    for step in steps:
        chance_S = (np.roll(chance_S, step) + np.roll(chance_S, -step)) / 2  # never reaches the ends: nothing wraps
    sums = np.arange(-reach, reach + 1)
    return float(min(1.0, chance_S[np.abs(sums) >= abs(sum(difference_P))].sum()))


def sign_flip(difference_P: Sequence[float], draws: int = 100_000) -> float:
    """Give what :func:`paired_p_value` does for differences of any size, whose sums are too many to list.

    Args:
      difference_P: by problem, the mean score of one model minus that of the other.
      draws: of signs, from a fixed seed. p is (1 + those as far from 0) / (1 + draws), which is valid for any number.
    Source: Phipson and Smyth 2010 (Stat. Appl. Genet. Mol. Biol. 9), eq. 2, for the ones.
    """
    value_P = np.asarray(difference_P, dtype=float)
    least = abs(value_P.sum()) * (1 - 1e-12)  # equal sums that rounding has set apart
    generator, far = np.random.default_rng(0), 0
    for first in range(0, draws, BLOCK):
        sign_DP = generator.integers(0, 2, (min(BLOCK, draws - first), len(value_P)), dtype=np.int8) * 2 - 1
        far += int((np.abs(sign_DP @ value_P) >= least).sum())
    return (1 + far) / (1 + draws)


BLOCK = 1000  # draws that are held at once
