"""The statistics of a study: worked by hand, against scipy, and against simulated studies whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from gatepo.evaluate.statistics import paired_p_value
from gatepo.study.curve import gains
from gatepo.study.evidence import against_each
from gatepo.study.intervals import (
    Censored,
    Interval,
    censored_mean,
    decision,
    equivalence,
    holm,
    log_ratio,
    paired_shares,
    seeds_for_equivalence,
    seeds_for_mean,
    seeds_for_shares,
    shares_of_counts,
    student,
)

STUDIES, SEEDS, ALPHA = 300, 10, 0.05


def test_the_t_interval_is_scipys() -> None:
    values = [0.3, 0.1, -0.2, 0.4, 0.25]
    found = student(values)(0.01)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.99)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    # mean 0.17, SD 0.23345, t(0.025, 4 df) = 2.7764: 2.7764 x 0.23345 / sqrt 5 = 0.28986
    found = student(values)(0.05)
    assert (found.low, found.high) == (pytest.approx(0.17 - 0.28986, abs=1e-4), pytest.approx(0.17 + 0.28986, abs=1e-4))


def test_a_decision_is_as_the_study_says() -> None:
    def of(low: float, high: float) -> bool | None:
        return decision(Interval(estimate=0, low=low, high=high), 0.5)

    assert [of(0.1, 0.4), of(-1, 0.4), of(0.1, 0.6), of(-1, 0.6)] == [False, False, True, None]

    def same(low: float, high: float) -> bool | None:
        return equivalence(Interval(estimate=0, low=low, high=high), 0.5)

    assert [same(-0.4, 0.4), same(-0.6, 0.4), same(0.6, 0.9), same(-0.9, -0.6)] == [True, None, False, False]


def test_shares_worked_by_hand() -> None:
    # All ten only in the first: p >= 0.025^(1/10) = 0.69150, so 2 p - 1 = 0.38301 of 10 in 10
    found = paired_shares([True] * 10, [False] * 10)(0.05)
    assert (found.estimate, found.low, found.high) == (1.0, pytest.approx(0.38301, abs=1e-4), 1.0)
    # No discordant seed: up to 1 - 0.025^(1/10) = 0.30850 of them may be, on either side
    found = paired_shares([True, False] * 5, [True, False] * 5)(0.05)
    assert (found.estimate, found.low, found.high) == (
        0,
        pytest.approx(-0.3085, abs=1e-4),
        pytest.approx(0.3085, abs=1e-4),
    )


def test_shares_are_decided_as_mcnemars_exact_test_does() -> None:
    for b in range(11):
        for c in range(11 - b):
            p = paired_p_value([1] * b + [-1] * c + [0] * (10 - b - c))
            for alpha in (0.05, 0.005):
                found = shares_of_counts(b, c, 10)(alpha)
                assert (found.low > 0) == (p <= alpha and b > c)
                assert (found.high < 0) == (p <= alpha and b < c)
                assert found.low <= found.estimate <= found.high
    assert stats.binomtest(9, 10).pvalue == pytest.approx(paired_p_value([1] * 9 + [-1]))


def test_times_that_did_not_come_are_bounds() -> None:
    assert log_ratio(80, 20, 160) == Censored(low=math.log(4), high=math.log(4))
    assert log_ratio(math.inf, 20, 160) == Censored(low=math.log(8), high=math.inf)
    assert log_ratio(20, math.inf, 160) == Censored(low=-math.inf, high=math.log(1 / 8))
    assert log_ratio(math.inf, math.inf, 160) == Censored(low=-math.inf, high=math.inf)


def test_a_mean_of_bounds() -> None:
    values = [0.9, 1.2, 0.4, 1.1, 0.8]
    exact = [Censored(low=value, high=value) for value in values]
    plain = censored_mean(exact)
    assert plain is not None and plain(0.05) == student(values)(0.05)
    # A bound far below all others says nothing; one above them pulls the mean up.
    idle = censored_mean([*exact, Censored(low=-50, high=math.inf)])
    pulled = censored_mean([*exact, Censored(low=2.5, high=math.inf)])
    assert idle is not None and pulled is not None
    assert idle(0.05).estimate == pytest.approx(0.88, abs=1e-3)
    assert pulled(0.05).estimate > (sum(values) + 2.5) / 6 - 1e-3
    assert pulled(0.05).high > idle(0.05).high
    assert censored_mean([*exact[:2], Censored(low=1, high=math.inf)]) is None


def test_holms_levels_worked_by_hand() -> None:
    # p = 0.01, 0.04, 0.03: 0.01 <= 0.05 / 3 goes on; 0.03 > 0.05 / 2 stops, and 0.04 behind it
    decided = [lambda alpha, p=p: p <= alpha for p in (0.01, 0.04, 0.03)]
    assert holm(decided, 0.05) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2])
    assert holm([lambda alpha: False] * 4, 0.05) == pytest.approx([0.05 / 4] * 4)
    assert holm([lambda alpha: True] * 2, 0.05) == pytest.approx([0.025, 0.05])


def test_the_seeds_that_would_do_are_the_fewest() -> None:
    values = [0.03, -0.02, 0.05, 0.01]
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    needed = seeds_for_mean(values, 0.03, 0.05)
    assert needed is not None

    def half(seeds: int) -> float:
        return float(stats.t.isf(0.025, seeds - 1)) * spread / math.sqrt(seeds)

    room = max(mean, 0.03 - mean)
    assert half(needed) < room <= half(needed - 1)
    equal = seeds_for_equivalence(values, 0.03, 0.05)
    assert equal is not None and half(equal) < 0.03 - mean <= half(equal - 1)
    # No discordant seed in ten: with n of them 1 - 0.025^(1/n) < 0.3 from n = 11 on (0.2849; 0.3085 at 10)
    assert seeds_for_shares(0, 0, 10, 0.3, 0.05) == 11


def test_the_smallest_of_several_effects() -> None:
    one, other = student([1.0, 1.1, 0.9]), student([0.5, 0.7, 0.6])
    both = against_each([one, other])(0.05)
    assert both.estimate == pytest.approx(0.6)
    assert both.low == other(0.05).low
    assert both.high == other(0.025).high


def test_a_curve_is_found_by_the_coordinate_that_it_follows() -> None:
    """Four columns at three learning rates; collapse follows the first coordinate with a little noise."""
    random = np.random.default_rng(0)
    first_C = np.log(np.outer([0.7, 0.3, 0.7, 0.3], [1, 2, 4]).ravel())
    second_C = np.log(np.outer([0.4, 0.17, 0.92, 0.4], [1, 2, 4]).ravel())
    collapsed_SC = (first_C + 0.3 * random.standard_normal((SEEDS, 12)) > 0).astype(float)
    collapsed_SC[0, 0] = math.nan
    found = gains(collapsed_SC, first_C, second_C)
    assert len(found) == SEEDS and np.mean(found) > 0.1
    assert [-gain for gain in gains(collapsed_SC, second_C, first_C)] == pytest.approx(found)
    assert gains(collapsed_SC, first_C, first_C) == [0.0] * SEEDS


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape)


def wrong(true: float, smallest: float, claims: int) -> float:
    """The share of simulated studies of ``claims`` claims, all with the same true effect, with any false decision."""
    false = 0
    for values_KS in true + noise(STUDIES, claims, SEEDS):
        intervals = [student(values) for values in values_KS]
        levels = holm([lambda alpha, i=i: decision(i(alpha), smallest) is not None for i in intervals], ALPHA)
        said = [decision(i(level), smallest) for i, level in zip(intervals, levels, strict=True)]
        false += (true <= 0) in said
    return false / STUDIES


def within(share: float, bound: float) -> bool:
    """Whether a simulated share is at most a bound, but for the error of so many studies."""
    return share <= bound + 2.6 * math.sqrt(bound * (1 - bound) / STUDIES)


@pytest.mark.parametrize("true", [0.0, 0.8])
def test_false_decisions_come_as_rarely_as_they_may(true: float) -> None:
    """Ten claims, ten seeds: an effect of 0 is said to hold, or one of the smallest size not to, in 5% of studies."""
    assert within(wrong(true, 0.8, 10), ALPHA)


def test_the_t_interval_covers_what_it_says_and_the_outcome_of_two_modes_less() -> None:
    def covered(values_RS: np.ndarray, mean: float) -> float:
        found = [student(values)(ALPHA) for values in values_RS]
        return float(np.mean([one.low <= mean <= one.high for one in found]))

    assert within(1 - covered(noise(STUDIES, SEEDS), 0.0), ALPHA)
    # One run in four collapses and loses 0.5 of accuracy: the interval is too short in about one study of ten.
    falls = np.random.default_rng(2).random((STUDIES, SEEDS)) < 0.25
    assert covered(0.05 * noise(STUDIES, SEEDS) - 0.5 * falls, -0.125) > 0.85


def test_mcnemar_and_equivalence_err_as_rarely_as_they_may() -> None:
    random = np.random.default_rng(3)
    first, second = random.random((2, STUDIES, SEEDS)) < 0.5
    found = [paired_shares(list(a), list(b))(ALPHA) for a, b in zip(first, second, strict=True)]
    assert within(float(np.mean([one.low > 0 or one.high < 0 for one in found])), ALPHA)
    assert within(float(np.mean([not one.low <= 0 <= one.high for one in found])), ALPHA)
    # A true difference of the margin itself is called the same in 5% of studies
    same = [equivalence(student(values)(2 * ALPHA), 1.0) is True for values in 1.0 + 0.3 * noise(STUDIES, SEEDS)]
    assert within(float(np.mean(same)), ALPHA)


def test_the_interval_from_bounds_covers_what_it_says() -> None:
    """Log-ratios around log 2 with a third of them known by a bound alone."""
    covered = 0
    studies = 150
    for values in math.log(2) + 0.8 * noise(studies, SEEDS):
        known = [Censored(low=v, high=v) if v < 1.05 else Censored(low=1.05, high=math.inf) for v in values]
        found = censored_mean(known)
        assert found is not None
        interval = found(ALPHA)
        covered += interval.low <= math.log(2) <= interval.high
    assert covered / studies > 0.95 - 2.6 * math.sqrt(0.95 * 0.05 / studies)
