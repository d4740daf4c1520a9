"""The reward of eq. 9 to 11 on every level, and on text that tries to break or to game it."""

import time
from fractions import Fraction

import pytest

from gatepo.rewards.numbers import exact, settle
from gatepo.rewards.reward import AnswerAndFormat
from gatepo.rewards.tags import answer_text, format_reward
from gatepo.rewards.verifier import MathVerifier, Verdict

FULL = "<think>1+1=2.</think><answer>2</answer>"


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (FULL, 1.0),
        (f"\n {FULL} \n", 1.0),
        ("<think>\n a \n</think>\n\n<answer>\n2\n</answer>", 1.0),
        ("<think>a<answer>2</answer>", 0.5),  # </think> is missing
        ("<think>a</think>b<answer>2</answer>", 0.5),  # text between the blocks
        ("<think></think><answer>2</answer>", 0.5),  # empty thought
        ("<think>a</think><answer> </answer>", 0.5),  # empty answer
        ("<think>a</think><answer>2</answer><answer>3</answer>", 0.5),  # two answers
        ("<think>a<think>b</think></think><answer>2</answer>", 0.5),  # nested
        ("<think><answer>2</answer></think><answer>2</answer>", 0.5),  # answer inside think
        ("<think>a<answer>b</think>2</answer>", 0.5),  # crossed
        ("<think></answer>", 0.5),
        ("<think>a</think><answer>2</answer> bye", 0.25),  # text behind the last tag
        ("<think>a</think>2", 0.25),
        ("<think>", 0.25),
        ("so <think>a</think><answer>2</answer>", 0.25),  # text before the first tag
        ("a<answer>2</answer>", 0.25),
        ("</answer>", 0.25),
        ("The answer is 2.", 0.0),
        ("", 0.0),
        ("</answer><think>", 0.0),
        ("<THINK>a</THINK><ANSWER>2</ANSWER>", 0.0),
        ("< think>a</ think>< answer>2</ answer>", 0.0),
    ],
)
def test_format_reward_is_equation_10(completion: str, reward: float) -> None:
    assert format_reward(completion) == reward


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (FULL, "2"),
        ("a<answer> 2 </answer>", "2"),
        ("<think>a<answer>2</answer>", "2"),  # the format is broken, the answer is there
        ("<answer>2</answer><answer>3</answer>", None),  # two answers
        ("<answer>2</answer> <answer>2</answer>", None),
        ("<think><answer>2</answer></think>", None),  # part of the thinking
        ("<answer>2</answer><think>a</think>", None),
        ("<answer><answer>2</answer></answer>", None),  # nested
        ("<answer>2", None),
        ("2</answer>", None),
        ("</answer>2<answer>", None),
        ("<answer></answer>", None),
        ("<answer>  </answer>", None),
        ("2", None),
    ],
)
def test_answer_is_what_stands_between_its_tags(completion: str, answer: str | None) -> None:
    assert answer_text(completion) == answer


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<answer>", "</answer>", "<answer>1</answer>", "<", "<a"])
def test_ten_thousand_repeated_tags_take_linear_time(tag: str) -> None:
    def seconds(times: int) -> float:
        text = "<think>" + tag * times + "</answer>"
        started = time.process_time()
        for _ in range(5):
            format_reward(text), answer_text(text)
        return time.process_time() - started

    assert format_reward("<think>" + tag * 10_000 + "</answer>") == 0.5
    # Quadratic time would make ten times the text a hundred times as slow; noise is far below the factor of 40.
    assert seconds(100_000) < 40 * max(seconds(10_000), 1e-3)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", Fraction(42)),
        (" -42. ", Fraction(-42)),
        ("\u221242", Fraction(-42)),
        ("+7", Fraction(7)),
        ("1,234,567", Fraction(1234567)),
        ("$1,234.50", Fraction(2469, 2)),
        ("$42$", Fraction(42)),
        ("\\(42\\)", Fraction(42)),
        ("0.125", Fraction(1, 8)),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        ("\\dfrac{6}{8}", Fraction(3, 4)),
        ("025", Fraction(25)),
        ("1/0", None),
        ("1,23", None),
        ("1 2", None),
        ("42 or 43", None),
        ("1=2=7", None),
        ("--4", None),
        ("4\\sqrt(2)", None),
        ("1/2006!", None),
        ("\u0664\u0662", None),  # Arabic-Indic digits: left to the judge
        ("9**9", None),
        ("1e5", None),
        ("NaN", None),
        ("", None),
        ("9" * 10_000, None),
    ],
)
def test_plain_numbers_are_read_exactly(text: str, number: Fraction | None) -> None:
    assert exact(text) == number


def test_settling_needs_two_plain_numbers() -> None:
    assert settle("0.5", "1/2") is True
    assert settle("1000", "1,000") is True
    assert settle("0.3333", "1/3") is False
    assert settle("x", "2") is None
    assert settle("2", "x") is None


def test_reward_is_the_weighted_sum_of_its_parts() -> None:
    reward = AnswerAndFormat(answer_weight=2.0, format_weight=0.5, deadline=1.0)
    assert reward.score(FULL, "2").total == 2.5
    assert reward.score(FULL, "3").total == 0.5
    assert reward.score("a<answer>2</answer>", "2").total == 2 + 0.5 * 0.25
    assert reward.score(FULL, "2").parts == {"answer": 1.0, "format": 1.0}


def test_expressions_are_judged_by_math_verify_in_another_process() -> None:
    verify = MathVerifier(deadline=20.0)
    try:
        assert verify("\\frac{\\sqrt{2}}{2}", "1/\\sqrt{2}") is Verdict.EQUAL
        assert verify("\\sqrt{2}", "1.5") is Verdict.DIFFERENT
        assert verify("2", "\ud800 } \\frac{") is Verdict.DIFFERENT  # a lone surrogate, broken LaTeX
    finally:
        verify.close()


def test_an_answer_that_takes_too_long_scores_nothing_and_the_next_one_is_judged() -> None:
    verify = MathVerifier(deadline=20.0)
    try:
        assert verify("x^2", "x*x") is Verdict.EQUAL  # the worker is warm
        verify._deadline = 1.0
        started = time.monotonic()
        assert verify("7", "9**9**9**9") in (Verdict.TIMED_OUT, Verdict.DIED, Verdict.DIFFERENT)
        assert verify("7", "((((9!)!)!)!)!") is not Verdict.EQUAL
        assert time.monotonic() - started < 15
        verify._deadline = 20.0
        assert verify("x+1", "1+x") is Verdict.EQUAL
    finally:
        verify.close()


def test_a_timed_out_answer_is_reported() -> None:
    reward = AnswerAndFormat(answer_weight=1.0, format_weight=1.0, deadline=0.0)
    try:
        got = reward.score("<think>a</think><answer>\\sqrt{2}</answer>", "x")
        assert (got.total, got.timed_out) == (1.0, True)
    finally:
        reward.close()
