"""What the runs of a study say of each claim: one number a seed, and the interval of their mean.

Axes: S seeds, C cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from gatepo.report.runs import Run
from gatepo.study import curve
from gatepo.study.claims import Cell, Claim, slug
from gatepo.study.intervals import (
    Censored,
    Interval,
    Intervals,
    censored_mean,
    decision,
    equivalence,
    log_ratio,
    paired_shares,
    seeds_for_equivalence,
    seeds_for_mean,
    seeds_for_shares,
    student,
)
from gatepo.study.outcomes import collapsed, outcome

Runs = Mapping[tuple[Cell, int], Run]
"""The runs that there are, by cell and seed."""
Coordinates = Callable[[Run], tuple[float, float]]
"""Gives log(half-width x lr) and log(lr / tau) of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a claim, before it is decided at which level."""

    statistic: str  # what was computed of each seed, in words
    seeds: tuple[int, ...]  # of which it could be
    interval: Intervals
    decide: Callable[[Interval], bool | None]
    needed: Callable[[float], int | None]  # seeds that would decide, at a level
    remark: str = ""

    def decided(self, alpha: float) -> bool:
        """Whether the claim is decided at this level."""
        return self.decide(self.interval(alpha)) is not None


def evidence(claim: Claim, runs: Runs, seeds: Sequence[int], coordinates: Coordinates) -> Evidence | None:
    """Compute what the runs say of a claim; None where no seed has all that it needs."""
    complete = tuple(seed for seed in seeds if all((cell, seed) in runs for cell in claim.cells))
    value = outcome(claim.outcome)
    found = {(cell, seed): value(runs[cell, seed]) for cell in claim.cells for seed in complete}
    complete = tuple(seed for seed in complete if not any(math.isnan(found[cell, seed]) for cell in claim.cells))
    if not complete:
        return None
    remark = counted(claim, runs, complete)
    values = {cell: [found[cell, seed] for seed in complete] for cell in claim.cells}
    if claim.test == "equivalence":
        return _equivalence(claim, values, complete, remark)
    if claim.test == "mcnemar":
        return _shares(claim, values, complete, remark)
    if claim.statistic == "log_ratio":
        return _times(claim, values, runs, complete, remark)
    if claim.statistic == "curve":
        return _curve(claim, values, runs, complete, coordinates)
    return _means(claim, values, runs, complete, remark)


def counted(claim: Claim, runs: Runs, seeds: Sequence[int]) -> str:
    """Say how many runs of each cell have collapsed: outcomes have two modes, and a mean alone would hide them."""
    counts = {cell: sum(collapsed(runs[cell, seed]) for seed in seeds) for cell in claim.cells}
    fallen = [f"{slug(cell)} {count:.0f} of {len(seeds)}" for cell, count in counts.items() if count]
    return f"collapsed: {', '.join(fallen)}" if fallen else "no run collapsed"


def _means(
    claim: Claim, values: Mapping[Cell, Sequence[float]], runs: Runs, seeds: tuple[int, ...], remark: str
) -> Evidence:
    """Of one number a seed, or of one against each rival: the claim holds where it holds against each."""
    if claim.statistic == "trend":
        slopes = [_slope(claim, runs, values, number, seed) for number, seed in enumerate(seeds)]
        rivals = {f"slope of {claim.outcome} over log {claim.over}": slopes}
    elif claim.statistic == "mean":
        rivals = {f"mean {claim.outcome} of {_named(claim.a)}": _mean(claim.a, values)}
    else:
        own = _mean(claim.a, values)
        rivals = {
            f"{claim.outcome} of {_named(claim.a)} minus that of {slug(cell)}": list(np.subtract(own, values[cell]))
            for cell in claim.b
        }
    sign = -1 if claim.predicts in ("a < b", "a < 0", "falls") else 1
    oriented = {name: [sign * value for value in each] for name, each in rivals.items()}
    names, samples = list(oriented), list(oriented.values())
    worst = min(range(len(samples)), key=lambda rival: fmean(samples[rival]))
    words = names[worst] + (", turned round" if sign < 0 else "")
    return Evidence(
        statistic=words if len(names) == 1 else f"{words}; the smallest of {len(names)} differences",
        seeds=seeds,
        interval=against_each([student(sample) for sample in samples]),
        decide=lambda found: decision(found, claim.delta),
        needed=lambda alpha: _most(seeds_for_mean(sample, claim.delta, alpha) for sample in samples),
        remark=remark,
    )


def against_each(intervals: Sequence[Intervals]) -> Intervals:
    """Give one interval for the smallest of several effects.

    Its lower bound is the smallest of theirs at alpha: all are above it. That any of them is below its upper bound is
    said at alpha over their number, since there are as many chances to be wrong.
    """

    def interval(alpha: float) -> Interval:
        wide = [one(alpha / len(intervals)) for one in intervals]
        low = min(one(alpha).low for one in intervals)
        return Interval(estimate=min(one.estimate for one in wide), low=low, high=min(one.high for one in wide))

    return interval


def _slope(claim: Claim, runs: Runs, values: Mapping[Cell, Sequence[float]], number: int, seed: int) -> float:
    x_C = [math.log(float(_at(runs[cell, seed].config, claim.over))) for cell in claim.among]
    return float(np.polyfit(x_C, [values[cell][number] for cell in claim.among], 1)[0])


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name]
    return config


def _mean(cells: Sequence[Cell], values: Mapping[Cell, Sequence[float]]) -> list[float]:
    return [fmean(each) for each in zip(*(values[cell] for cell in cells), strict=True)]


def _named(cells: Sequence[Cell]) -> str:
    names = ", ".join(slug(cell) for cell in cells)
    return names if len(cells) == 1 else f"the mean of {names}"


def _shares(claim: Claim, values: Mapping[Cell, Sequence[float]], seeds: tuple[int, ...], remark: str) -> Evidence:
    first, second = (claim.a[0], claim.b[0]) if claim.predicts == "a > b" else (claim.b[0], claim.a[0])
    pairs = list(zip(values[first], values[second], strict=True))
    b, c = sum(one > other for one, other in pairs), sum(one < other for one, other in pairs)
    return Evidence(
        statistic=f"share of seeds in which {slug(first)} collapsed minus that of {slug(second)}; exact McNemar",
        seeds=seeds,
        interval=paired_shares([one == 1 for one, _ in pairs], [other == 1 for _, other in pairs]),
        decide=lambda found: decision(found, claim.delta),
        needed=lambda alpha: seeds_for_shares(b, c, len(pairs), claim.delta, alpha),
        remark=f"{remark}; {b} seeds collapsed only in the first, {c} only in the second",
    )


def _times(
    claim: Claim, values: Mapping[Cell, Sequence[float]], runs: Runs, seeds: tuple[int, ...], remark: str
) -> Evidence | None:
    ratios: list[list[Censored]] = []  # by rival and seed
    for rival in claim.b:
        ratios.append([])
        for number, seed in enumerate(seeds):
            ends = float(len(runs[rival, seed].metrics))
            each = [_oriented(claim, values[cell][number], values[rival][number], ends) for cell in claim.a]
            mean = Censored(low=fmean(one.low for one in each), high=fmean(one.high for one in each))
            ratios[-1].append(mean)
    cut = sum(one.low != one.high for each in ratios for one in each)
    intervals = [censored_mean(each) for each in ratios]
    if any(found is None for found in intervals):
        return None
    known = [[one.low for one in each if one.low == one.high] for each in ratios]
    first, second = (
        (slug(claim.b[0]), _named(claim.a)) if claim.predicts == "a < b" else (_named(claim.a), slug(claim.b[0]))
    )
    return Evidence(
        statistic=f"log of {claim.outcome} of {first} over that of {second}",
        seeds=seeds,
        interval=against_each([found for found in intervals if found is not None]),
        decide=lambda found: decision(found, claim.delta),
        needed=lambda alpha: _most(seeds_for_mean(each, claim.delta, alpha) for each in known),
        remark=f"{remark}; {cut} of {sum(map(len, ratios))} ratios are known by a bound alone",
    )


def _oriented(claim: Claim, own: float, rival: float, ends: float) -> Censored:
    return log_ratio(rival, own, ends) if claim.predicts == "a < b" else log_ratio(own, rival, ends)


def _equivalence(claim: Claim, values: Mapping[Cell, Sequence[float]], seeds: tuple[int, ...], remark: str) -> Evidence:
    pairs = list(combinations(claim.among, 2))
    differences = {
        f"{slug(one)} minus {slug(other)}": list(np.subtract(values[one], values[other])) for one, other in pairs
    }
    intervals = {pair: student(each) for pair, each in differences.items()}

    def interval(alpha: float) -> Interval:
        for pair, one in intervals.items():
            if equivalence(one(alpha / len(pairs)), claim.delta) is False:
                return replace(one(alpha / len(pairs)), of=pair)
        every = (replace(one(2 * alpha), of=pair) for pair, one in intervals.items())
        return max(every, key=lambda found: max(-found.low, found.high))

    return Evidence(
        statistic=f"{claim.outcome}, two one-sided tests of every pair",
        seeds=seeds,
        interval=interval,
        decide=lambda found: equivalence(found, claim.delta),
        needed=lambda alpha: _most(
            seeds_for_equivalence(each, claim.delta, 2 * alpha) for each in differences.values()
        ),
        remark=remark,
    )


def _curve(
    claim: Claim,
    values: Mapping[Cell, Sequence[float]],
    runs: Runs,
    seeds: tuple[int, ...],
    coordinates: Coordinates,
) -> Evidence | None:
    if len(seeds) < 2:  # there is no other seed to fit a curve to
        return None
    collapsed_SC = np.array([values[cell] for cell in claim.among]).T
    places = [coordinates(runs[cell, seeds[0]]) for cell in claim.among]
    first_C, second_C = (np.array(each) for each in zip(*places, strict=True))
    gained = curve.gains(collapsed_SC, first_C, second_C)
    shares = ", ".join(f"{slug(cell)} {sum(values[cell]):.0f}" for cell in claim.among)
    return Evidence(
        statistic="log-likelihood per run of an unseen seed that half-width x lr gains over lr / tau, nats",
        seeds=seeds,
        interval=student(gained),
        decide=lambda found: decision(found, claim.delta),
        needed=lambda alpha: seeds_for_mean(gained, claim.delta, alpha),
        remark=f"collapsed, of {len(seeds)} each: {shares}",
    )


def _most(needed: Any) -> int | None:
    """Give the most of several numbers; None where one is not known."""
    numbers = list(needed)
    return None if None in numbers else max(numbers)
