"""Plain numbers as answers, compared exactly and without a computer algebra system."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gatepo.rewards.trees import LEAST_PLACES, Tree

MOST_BITS = 4096  # of a number that is worked out here
CLOSE = Fraction(1, 100_000)  # of the gold number: so that a rounded tiny number keeps its leading digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as it was written."""

    value: Fraction  # before a percent sign is looked at
    places: int | None = None  # decimals behind the point, where it was written with one
    percent: bool = False


def number_of(tree: Tree) -> Number | None:
    """Give the number that a tree spells, or None where it is more than arithmetic on plain numbers."""
    percent = tree[0] == "%"
    tree = tree[1] if percent else tree
    value = _value_of(tree)
    return None if value is None else Number(value=value, places=_places(tree), percent=percent)


def same(gold: Number, prediction: Number) -> bool:
    """Whether two numbers are equal as answers.

    Exactly, but for two things that every grader allows: a percentage p% stands for p or p/100 where the other side has
    no percent sign, and a decimal with ``LEAST_PLACES`` places or more stands for a number that it is less than one
    unit in its last place away from (0.333333 for 1/3, not 0.3333).
    """
    places = min((n.places for n in (gold, prediction) if n.places is not None), default=None)
    if gold.percent == prediction.percent:
        return _close(gold.value, prediction.value, places)
    return any(_close(left, right, places) for left in _readings(gold) for right in _readings(prediction))


def _value_of(tree: Tree) -> Fraction | None:
    """Work out sums, products, quotients and whole powers; None where there is more, or the value is too large."""
    head = tree[0]
    if head == "n":
        return Fraction(tree[1])
    if head not in ("+", "-", "*", "/", "^"):
        return None
    values = [value for value in map(_value_of, tree[1:]) if value is not None]
    if len(values) < len(tree) - 1:
        return None
    value = _worked_out(head, values)
    too_large = value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS
    return None if too_large else value


def _worked_out(head: str, values: list[Fraction]) -> Fraction | None:
    first = values[0]
    if head == "+":
        return sum(values, Fraction(0))
    if head == "*":
        return math.prod(values, start=Fraction(1))
    if head == "-":
        return -first
    if head == "/":
        return first / values[1] if values[1] else None
    size = max(first.numerator.bit_length(), first.denominator.bit_length())
    if values[1].denominator != 1 or size * abs(values[1]) > MOST_BITS or (first == 0 and values[1] <= 0):
        return None
    return first ** int(values[1])


def _places(tree: Tree) -> int | None:
    """Count the decimals of a number, or of one times a power of ten."""
    if tree[0] == "-":
        return _places(tree[1])
    if tree[0] == "n":
        return None if tree[2] is None else int(tree[2])
    if tree[0] == "*" and tree[1][0] == "n" and tree[1][2] is not None and tree[2][:2] == ("^", ("n", 10, None)):
        power = _value_of(tree[2][2])
        return None if power is None else int(tree[1][2] - power)
    return None


def _close(gold: Fraction, prediction: Fraction, places: int | None) -> bool:
    if gold == prediction or places is None or places < LEAST_PLACES:
        return gold == prediction
    difference = abs(gold - prediction)
    return difference < Fraction(1, 10**places) and difference <= CLOSE * abs(gold)


def _readings(number: Number) -> tuple[Fraction, ...]:
    return (number.value, number.value / 100) if number.percent else (number.value,)
