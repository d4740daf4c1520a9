"""From graded completions to the figures of a benchmark, and of a comparison on the same problems.

Axes: P problems, K completions of one problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from gatepo.evaluate.generations import Problem, Sample
from gatepo.evaluate.statistics import (
    Estimate,
    clustered,
    mean_difference,
    mean_score,
    paired_p_value,
    pass_at,
    sign_flip,
)
from gatepo.rewards.equality import settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A benchmark's figures; fractions in [0, 1], lengths in tokens."""

    graded: bool  # whether answers were; else there is a mean score, and nothing of OF_ANSWERS counts
    problems: int
    samples: int  # K
    score: Estimate  # the accuracy, avg@K, which is pass@1; or the mean of a reward that grades no answer
    pass_at: dict[int, float]  # by k: the powers of 2 below K, and K
    majority: float  # accuracy of the answer that most completions give
    format: Estimate  # share of completions that follow the template fully (eq. 10)
    mean_length: float
    median_length: float
    finished: float  # share that ended before the length limit
    timed_out: int  # completions whose answer took too long to check, and counts as wrong

    def as_json(self) -> dict[str, Any]:
        """Give the figures as nested dicts; bounds that are not known are null."""
        found = {name: value for name, value in asdict(self).items() if name not in ("graded", "score")}
        if self.graded:
            return {"accuracy": asdict(self.score)} | found
        return {"score": _known(self.score)} | {key: value for key, value in found.items() if key not in OF_ANSWERS}


OF_ANSWERS = ("pass_at", "majority", "format", "timed_out")


def _known(estimate: Estimate) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(estimate).items()}


def result(problems: Sequence[Problem]) -> Result:
    """Give the figures of a set; every problem has as many completions."""
    K = len(problems[0].samples)
    samples = [sample for problem in problems for sample in problem.samples]
    graded = is_graded(problems)
    value_PK = [[sample.value for sample in problem.samples] for problem in problems]
    right_P = [sum(sample.right for sample in problem.samples) for problem in problems]
    return Result(
        problems=len(problems),
        samples=K,
        graded=graded,
        score=clustered(value_PK) if graded else mean_score([fmean(row) for row in value_PK]),
        pass_at={k: fmean(pass_at(k, right, K) for right in right_P) for k in _sizes(K)},
        majority=fmean(majority(problem.samples) for problem in problems),
        format=clustered([[float(sample.format == 1) for sample in problem.samples] for problem in problems]),
        mean_length=fmean(sample.tokens for sample in samples),
        median_length=median(sample.tokens for sample in samples),
        finished=fmean(sample.finished for sample in samples),
        timed_out=sum(sample.timed_out for sample in samples),
    )


def is_graded(problems: Sequence[Problem]) -> bool:
    """Say whether their answers were graded, and not only scored."""
    return problems[0].samples[0].score is None


def majority(samples: Iterable[Sample]) -> float:
    """Whether the most frequent answer is right; where several are as frequent, the fraction of them that are.

    Answers are one when their spelling says so (1/2 and 0.5); the gold answer has no part in counting. Completions
    without an answer do not vote; with no vote at all it is 0.
    """
    classes: list[list[Sample]] = []
    for sample in samples:
        if sample.answer is None:
            continue
        for members in classes:
            if settle(members[0].answer or "", sample.answer) is True:
                members.append(sample)
                break
        else:
            classes.append([sample])
    most = max(map(len, classes), default=0)
    return fmean(members[0].right for members in classes if len(members) == most) if classes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One model against another on the problems that both were given."""

    problems: int
    samples: int  # completions of each problem that were compared
    better: int  # problems on which the first has the higher share of right answers, or the higher score
    worse: int
    graded: bool  # whether answers were; else scores are compared
    difference: Estimate  # of the accuracies, or of the mean scores
    p_value: float  # gatepo.evaluate.statistics.paired_p_value, or sign_flip of scores

    def as_json(self) -> dict[str, Any]:
        """Give the figures as nested dicts; bounds that are not known are null."""
        found = {name: value for name, value in asdict(self).items() if name != "graded"}
        return found | {"difference": _known(self.difference)}


def compare(ours: Sequence[Problem], theirs: Sequence[Problem]) -> Comparison:
    """Compare problem by problem, in the same order, on as many completions of each as both have.

    With more of one than of the other, equal models would not differ by d and by -d as often, which is what the test
    rests on: at 8 against 1 it calls a quarter of equal pairs different, with 30 problems as hard as AIME's.
    """
    K = min(len(ours[0].samples), len(theirs[0].samples))
    pairs = [(_sum(one, K), _sum(other, K)) for one, other in zip(ours, theirs, strict=True)]
    difference_P = [one - other for one, other in pairs]
    mean_P, graded = [d / K for d in difference_P], is_graded(ours)
    return Comparison(
        problems=len(difference_P),
        samples=K,
        better=sum(d > 0 for d in difference_P),
        worse=sum(d < 0 for d in difference_P),
        graded=graded,
        difference=mean_difference(mean_P) if graded else mean_score(mean_P),
        p_value=paired_p_value([round(d) for d in difference_P]) if graded else sign_flip(mean_P),
    )


def _sum(problem: Problem, K: int) -> float:
    """Add up the first K: the right answers, or the scores."""
    return sum(sample.value for sample in problem.samples[:K])


def _sizes(K: int) -> list[int]:
    return sorted({2**i for i in range(K.bit_length()) if 2**i <= K} | {K})
