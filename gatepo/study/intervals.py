"""What seeds say of an effect: intervals, and the number of seeds that a decision would need. Numbers in, numbers out.

Axes: S seeds, paired: each value compares runs of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

MOST_SEEDS = 100_000
INFINITE = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its two-sided interval."""

    estimate: float
    low: float
    high: float
    of: str = ""  # what it is the interval of, where that depends on the level


Intervals = Callable[[float], Interval]
"""Gives the interval that misses with at most this probability, alpha, half of it on each side."""


def decision(found: Interval, smallest: float) -> bool | None:
    """Decide on a claim that an effect is above 0 and as large as matters.

    Args:
      found: interval of the effect, oriented as claimed.
      smallest: the smallest effect of interest.
    Returns: False where the interval is below ``smallest``; else True where it is above 0; else None: nobody knows.

    >>> [decision(Interval(estimate=0, low=low, high=high), 1.0) for low, high in ((0.1, 0.9), (0.1, 2), (-1, 2))]
    [False, True, None]
    """
    if found.high < smallest:
        return False
    return True if found.low > 0 else None


def equivalence(found: Interval, margin: float) -> bool | None:
    """Decide on a claim that an effect is within ``margin`` of 0, by two one-sided tests (Schuirmann 1987).

    Returns: True where the interval is within the margins, False where it is beyond one of them, else None. The
      interval of a test at level a misses with probability 2 a.
    """
    if -margin < found.low and found.high < margin:
        return True
    return False if found.low > margin or found.high < -margin else None


def student(value_S: Sequence[float]) -> Intervals:
    """Give the t interval of a mean, mean -+ t SD / sqrt(S), S - 1 degrees of freedom; of one seed all numbers."""
    known_S = np.asarray(value_S, dtype=float)
    mean = float(known_S.mean())
    if len(known_S) < 2:
        return lambda alpha: Interval(estimate=mean, low=-INFINITE, high=INFINITE)
    error = float(known_S.std(ddof=1) / math.sqrt(len(known_S)))

    def interval(alpha: float) -> Interval:
        half = t_value(alpha, len(known_S)) * error
        return Interval(estimate=mean, low=mean - half, high=mean + half)

    return interval


def t_value(alpha: float, seeds: int) -> float:
    """Give what Student's t of so many seeds exceeds with probability alpha / 2."""
    return -float(special.stdtrit(seeds - 1, alpha / 2))


def paired_shares(first_S: Sequence[bool], second_S: Sequence[bool]) -> Intervals:
    """Give the interval of the difference of two shares, of paired outcomes; exact, so that it misses rarely enough.

    b seeds have only the first, c only the second; the estimate is (b - c) / S. It is above 0 exactly where McNemar's
    exact test (b of b + c tosses of a coin, two-sided by doubling) rejects at alpha, and then its lower bound is
    (2 p - 1) (b + c) / S, where p is the lower Clopper-Pearson bound of b / (b + c); likewise below 0. Else its bounds
    are those of b / S and of -c / S alone, on the safe side: after b = c = 0 there may be discordant seeds yet.
    """
    pairs = list(zip(first_S, second_S, strict=True))
    b, c = (sum(one and not other for one, other in pairs), sum(other and not one for one, other in pairs))
    return shares_of_counts(b, c, len(pairs))


def shares_of_counts(b: int, c: int, seeds: int) -> Intervals:
    """Give what :func:`paired_shares` gives, from the counts of discordant seeds."""

    def interval(alpha: float) -> Interval:
        low, high = -_upper(c, seeds, alpha / 2), _upper(b, seeds, alpha / 2)
        if b + c:
            tosses = stats.binomtest(b, b + c).proportion_ci(1 - alpha, method="exact")
            bounds = [(2 * p - 1) * (b + c) / seeds for p in tosses]
            low, high = (bounds[0] if bounds[0] > 0 else low), (bounds[1] if bounds[1] < 0 else high)
        return Interval(estimate=(b - c) / seeds, low=float(low), high=float(high))

    return interval


def _upper(count: int, trials: int, alpha: float) -> float:
    """Give the upper Clopper-Pearson bound of a share, which misses with probability alpha."""
    return 1.0 if count == trials else float(stats.beta.isf(alpha, count + 1, trials - count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Censored:
    """A number of which only bounds are known: equal where it is known, infinite where there is none."""

    low: float
    high: float


def log_ratio(first: float, second: float, ends: float) -> Censored:
    """Give log(first / second) of two times, either of which may not have come before the run ended.

    Args:
      first: a time; infinite where it did not come.
      second: likewise.
      ends: the time at which the run ended.

    >>> log_ratio(math.inf, 40, 160)  # log 4 or more
    Censored(low=1.3862943611198906, high=inf)
    """
    low = math.log(min(first, ends) / second) if math.isfinite(second) else -INFINITE
    high = math.log(first / min(second, ends)) if math.isfinite(first) else INFINITE
    return Censored(low=low, high=high)


def censored_mean(value_S: Sequence[Censored]) -> Intervals | None:
    """Give the interval of the mean of a normal distribution from values of which some are known by a bound alone.

    Mean and standard deviation are those of greatest likelihood (scipy's ``CensoredData``). The bounds are where twice
    the log-likelihood, greatest over the standard deviation, has fallen by t^2 (S - 1 degrees of freedom) times
    S / (S - 1): for few seeds wider than the chi-square that it would be with many. Without a bound among the values it
    is the t interval itself. None: fewer than three of them are known.
    """
    known_S = [value for value in value_S if math.isfinite(value.low) or math.isfinite(value.high)]
    exact = [value.low for value in known_S if value.low == value.high]
    if len(exact) == len(value_S):
        return student(exact)
    if len(exact) < 3:
        return None
    low_S, high_S = (np.array([getattr(value, side) for value in known_S]) for side in ("low", "high"))
    data = stats.CensoredData(
        uncensored=exact,
        left=high_S[np.isneginf(low_S)],
        right=low_S[np.isposinf(high_S)],
    )
    mean, spread = (float(value) for value in stats.norm.fit(data))

    def fallen(at: float) -> float:
        """By how much the log-likelihood has fallen, greatest over the standard deviation."""
        best = optimize.minimize_scalar(
            lambda log_spread: _nll(low_S, high_S, at, math.exp(log_spread)),
            bounds=(math.log(spread) - 5, math.log(spread) + 5 + math.log1p(abs(at - mean) / spread)),
            method="bounded",
        )
        return float(best.fun) - _nll(low_S, high_S, mean, spread)

    def interval(alpha: float) -> Interval:
        S = len(known_S)
        t = t_value(alpha, S)
        limit = S / 2 * math.log1p(t**2 / (S - 1))  # of a normal sample, where this is the t interval
        bounds = [_crossing(fallen, mean, side * spread, limit) for side in (-1, 1)]
        return Interval(estimate=mean, low=bounds[0], high=bounds[1])

    return interval


def _nll(low_S: np.ndarray, high_S: np.ndarray, mean: float, spread: float) -> float:
    """Give minus the log-likelihood, but for a constant."""
    low_S, high_S = (low_S - mean) / spread, (high_S - mean) / spread
    exact_S = low_S[low_S == high_S]
    total = (exact_S**2).sum() / 2 + len(exact_S) * math.log(spread)
    total -= special.log_ndtr(-low_S[np.isposinf(high_S)]).sum()
    return float(total - special.log_ndtr(high_S[np.isneginf(low_S)]).sum())


def _crossing(fallen: Callable[[float], float], start: float, step: float, limit: float) -> float:
    """Find where a function that is 0 at the start and grows reaches a limit; infinite where it never does."""
    far = step
    while fallen(start + far) < limit:
        far *= 2
        if abs(far) > 1e6 * abs(step):
            return math.copysign(INFINITE, step)
    return start + float(optimize.brentq(lambda way: fallen(start + way) - limit, 0.0, far))


def seeds_for_mean(value_S: Sequence[float], smallest: float, alpha: float) -> int | None:
    """Give the number of seeds with which :func:`decision` would come, were mean and spread those of these seeds."""
    mean, spread = _mean_and_spread(value_S)
    return _seeds(spread, max(mean, smallest - mean), alpha)


def seeds_for_equivalence(value_S: Sequence[float], margin: float, alpha: float) -> int | None:
    """Give the number of seeds with which :func:`equivalence` would come, were mean and spread those of these seeds."""
    mean, spread = _mean_and_spread(value_S)
    return _seeds(spread, abs(margin - abs(mean)), alpha)


def seeds_for_shares(b: int, c: int, seeds: int, smallest: float, alpha: float) -> int | None:
    """Give the number of seeds with which :func:`decision` would come, were the shares those of these seeds."""

    def comes(more: int) -> bool:
        counts = (round(b * more / seeds), round(c * more / seeds), more)
        return decision(shares_of_counts(*counts)(alpha), smallest) is not None

    return next((more for more in _sizes(seeds + 1) if comes(more)), None)


def _mean_and_spread(value_S: Sequence[float]) -> tuple[float, float]:
    known_S = np.asarray(value_S, dtype=float)
    return float(known_S.mean()), float(known_S.std(ddof=1)) if len(known_S) > 1 else math.nan


def _seeds(spread: float, room: float, alpha: float) -> int | None:
    if not (room > 0 and math.isfinite(spread)):
        return None
    for seeds in _sizes(2):
        if t_value(alpha, seeds) * spread / math.sqrt(seeds) < room:
            return seeds
    return None


def _sizes(first: int) -> list[int]:
    """List numbers of seeds, each up to a hundred, then by steps of at least a hundredth."""
    sizes = [max(first, 2)]
    while sizes[-1] < MOST_SEEDS:
        sizes.append(sizes[-1] + max(1, sizes[-1] // 100))
    return sizes


def holm(intervals: Sequence[Callable[[float], bool]], alpha: float) -> list[float]:
    """Give the level of each claim by Holm's step-down rule (1979), so that the chance of any false decision is alpha.

    With m claims, the one that is decided at the smallest level comes first, and is held to alpha / m; the next to
    alpha / (m - 1), and so on, as long as each is decided. At the first that is not, and for all behind it, the level
    stays what it was.

    Args:
      intervals: say for a level whether the claim is decided at it. A claim that is decided at one level is decided at
        every larger one.
      alpha: of all claims together.
    """
    smallest = [_decided_from(decided, alpha) for decided in intervals]
    order = sorted(range(len(intervals)), key=lambda number: smallest[number])
    levels = [alpha] * len(intervals)
    stopped = None
    for place, number in enumerate(order):
        own = alpha / (len(intervals) - place) if stopped is None else stopped
        levels[number] = own
        if stopped is None and smallest[number] > own:
            stopped = own
    return levels


def _decided_from(decided: Callable[[float], bool], alpha: float) -> float:
    """Give the smallest level at which a claim is decided; above alpha where it is at none."""
    if not decided(alpha):
        return 2 * alpha
    low, high = math.log(1e-12), math.log(alpha)
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(math.exp(middle)) else (middle, high)
    return math.exp(high)
