"""The statistics of an evaluation: worked by hand, and against simulated models whose truth is known."""

import math
import random

import numpy as np
import pytest
from composed import evaluation_settings

from gatepo.errors import UserError
from gatepo.evaluate.folder import Evaluation
from gatepo.evaluate.generations import Problem, Sample
from gatepo.evaluate.report import comparisons
from gatepo.evaluate.results import compare, majority
from gatepo.evaluate.statistics import clustered, mean_difference, paired_p_value, pass_at, wilson


def test_wilson_worked_by_hand() -> None:
    # p = 1/2, n = 16, z^2 = 3.8415: middle 1/2, half = z/(1 + z^2/16) sqrt(1/64 + z^2/1024) = 1.96/1.2401 * 0.13919
    got = wilson(0.5, 16)
    assert (got.low, got.high) == pytest.approx((0.28, 0.72), abs=2e-4)
    # p = 0: the bounds are 0 and z^2/(n + z^2) = 3.8415/33.8415
    got = wilson(0.0, 30)
    assert (got.low, got.high) == pytest.approx((0.0, 0.113513), abs=1e-6)
    got = wilson(1.0, 30)
    assert (got.low, got.high) == pytest.approx((1 - 0.113513, 1.0), abs=1e-6)


def test_one_completion_a_problem_is_wilsons_own_interval() -> None:
    got, want = clustered([[1.0]] * 3 + [[0.0]] * 27), wilson(0.1, 30)
    assert (got.value, got.low, got.high) == pytest.approx((0.1, want.low, want.high))


def test_agreeing_completions_are_worth_one_and_independent_ones_are_worth_all() -> None:
    same = clustered([[1.0] * 4] * 5 + [[0.0] * 4] * 5)  # 10 problems, nothing learned from more completions
    assert (same.low, same.high) == pytest.approx((wilson(0.5, 10).low, wilson(0.5, 10).high))
    # p_i = 1/4, 1/2, 3/4: SE^2 = (1/16 + 0 + 1/16)/9 = 1/72, n = (1/4)/(1/72) = 18, but there are 12 completions
    apart = clustered([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    assert (apart.low, apart.high) == pytest.approx((wilson(0.5, 12).low, wilson(0.5, 12).high))
    # p_i = 0, 1/2, 1/2, 1: SE^2 = (1/4 + 1/4)/16 = 1/32, n = (1/4)/(1/32) = 8 = all completions
    between = clustered([[0, 0], [1, 0], [0, 1], [1, 1]])
    assert (between.low, between.high) == pytest.approx((wilson(0.5, 8).low, wilson(0.5, 8).high))


@pytest.mark.parametrize(("problems", "samples"), [(30, 1), (30, 4), (60, 8), (500, 2)])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(problems: int, samples: int, spread: float) -> None:
    """Problems with success chances from a Beta distribution of mean 0.2: the truth is over new problems too."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        chance_P = rng.beta(0.2 * spread, 0.8 * spread, size=(problems, 1))
        estimate = clustered((rng.random((problems, samples)) < chance_P).astype(float).tolist())
        held += estimate.low <= 0.2 <= estimate.high
    assert 0.92 <= held / 400 <= 0.98


def test_pass_at_k_worked_by_hand() -> None:
    assert pass_at(1, right=3, samples=4) == pytest.approx(0.75)
    # of the 6 pairs of 4 completions with 1 right, 3 hold it
    assert pass_at(2, right=1, samples=4) == pytest.approx(0.5)
    assert pass_at(4, right=1, samples=4) == 1.0
    assert pass_at(3, right=0, samples=4) == 0.0


def test_pass_at_k_is_unbiased() -> None:
    """Mean over draws of 8 completions with chance 0.2: 1 - 0.8^3, which 1 - (1 - c/n)^3 misses by 0.03."""
    right = np.random.default_rng(0).binomial(8, 0.2, size=20_000)
    assert np.mean([pass_at(3, int(c), 8) for c in right]) == pytest.approx(1 - 0.8**3, abs=0.006)


def test_with_one_completion_the_paired_test_is_mcnemars() -> None:
    # 1 against 7 of 8 problems on which they disagree: 2 (1 + 8)/2^8; the 20 on which they agree do not count
    assert paired_p_value([1] + [-1] * 7 + [0] * 20) == pytest.approx(18 / 256)
    assert paired_p_value([1, -1, 0]) == 1.0
    assert paired_p_value([0, 0]) == 1.0


def test_the_paired_test_counts_every_choice_of_signs() -> None:
    # 3, 1, 1 with any signs: sums 5 3 3 1 -1 -3 -3 -5; as far as |3 + 1 - 1| = 3: six of eight
    assert paired_p_value([3, 1, -1]) == pytest.approx(6 / 8)
    assert paired_p_value([3, 1, 1]) == pytest.approx(2 / 8)


def test_equal_models_are_seldom_told_apart_and_different_ones_mostly() -> None:
    rng = np.random.default_rng(0)

    def found(gap: float) -> float:
        small = 0
        for _ in range(300):
            chance_P = rng.beta(1, 3, size=100) * 0.8
            ours, theirs = rng.binomial(4, chance_P + gap), rng.binomial(4, chance_P)
            small += paired_p_value((ours - theirs).tolist()) <= 0.05
        return small / 300

    assert found(0.0) <= 0.08
    assert found(0.1) >= 0.8


def test_the_interval_of_a_difference_worked_by_hand() -> None:
    # mean 1/4, SD^2 with 3: (3 (1/4)^2 + (3/4)^2)/3 = 1/4, half = 1.95996 sqrt(1/16) = 0.48999
    got = mean_difference([1.0, 0.0, 0.0, 0.0])
    assert (got.value, got.low, got.high) == pytest.approx((0.25, -0.239991, 0.739991), abs=1e-6)
    assert mean_difference([1.0]).low == -1.0
    assert not math.isinf(mean_difference([1.0]).high)


def answers(*given: tuple[str | None, bool]) -> list[Sample]:
    return [
        Sample(text="", answer=answer, right=right, format=0.0, tokens=1, finished=True, timed_out=False)
        for answer, right in given
    ]


def problems(*right: tuple[bool, ...], question: str = "") -> list[Problem]:
    return [
        Problem(set="s", index=i, question=question, gold="", samples=tuple(answers(*(("", r) for r in row))))
        for i, row in enumerate(right)
    ]


def test_models_with_other_numbers_of_completions_are_compared_on_as_many() -> None:
    """Two of two, one and none are right, against one, two and one of the first two of four: +1, -1 and -1."""
    ours = problems((True, True), (True, False), (False, False))
    theirs = problems((True, False, False, False), (True, True, False, False), (False, True, True, True))
    got = compare(ours, theirs)
    assert (got.problems, got.samples, got.better, got.worse) == (3, 2, 1, 2)
    assert got.difference.value == pytest.approx((1 - 1 - 1) / 2 / 3)
    assert got.p_value == 1.0  # whatever the three signs, |sum| >= 1
    assert compare(theirs, ours).difference.value == pytest.approx(1 / 6)


def test_equal_models_are_seldom_called_different_however_many_completions_each_gave() -> None:
    """30 problems as hard as AIME's, eight completions against one: below 0.05 in at most 5% of 1,000 pairs."""
    rng = random.Random(0)

    def model(K: int) -> list[Problem]:
        return problems(*(tuple(rng.random() < 0.03 for _ in range(K)) for _ in range(30)))

    assert sum(compare(model(8), model(1)).p_value <= 0.05 for _ in range(1000)) <= 50


def test_only_the_same_problems_are_compared() -> None:
    ours, theirs = problems((True,), (False,)), problems((True,), (True,), question="another")
    asked = evaluation_settings()
    one = Evaluation(name="ours", sets={"s": ours})
    same = Evaluation(name="theirs", sets={"s": [ours[0], theirs[1]]})
    assert comparisons(asked, one, same)["s"].problems == 1
    with pytest.raises(UserError, match="against must hold some of the same problems"):
        comparisons(asked, one, Evaluation(name="theirs", sets={"s": theirs}))


def test_the_majority_is_of_equal_answers_and_silence_has_no_vote() -> None:
    assert majority(answers(("1/2", True), ("3", False), ("0.5", True))) == 1.0
    assert majority(answers(("3", False), ("3.0", False), ("1/2", True), (None, False), (None, False))) == 0.0
    assert majority(answers(("1", True), ("2", False), ("3", False))) == pytest.approx(1 / 3)  # a draw of three
    assert majority(answers((None, False))) == 0.0
