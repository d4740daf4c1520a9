"""Answers that are plain numbers, settled exactly and without a computer algebra system.

Every pattern runs in time linear in the text, and nothing here is larger than ``MOST_BITS`` bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 400  # characters; a longer text is not a plain number that anybody asked for
MOST_BITS = 4096  # of a power that is worked out here
LEAST_PLACES = 6  # decimals from which on a rounded number stands for the exact one
CLOSE = Fraction(1, 100_000)  # of the gold number: so that a rounded tiny number keeps its leading digits

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:[ ]\d{3})+|\d+)"
_DECIMAL = rf"{_INTEGER}?\.\d+"
_FRACTION = r"\\[dtc]?frac\s*\{{\s*(?P<{0}_sign>[-+]?)\s*(?P<{0}_top>{1})\s*\}}\s*\{{\s*(?P<{0}_bottom>{1})\s*\}}"
_EXPONENT = r"(?:\{\s*(?P<braced>[-+]?\d{1,3})\s*\}|(?P<bare>[-+]?\d{1,3}))"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s* (?:\\?(?P<currency>[$€£¥]))? \s* (?P<inner_sign>[-+]?)
    (?: (?P<whole>\d+)\s*{_FRACTION.format("mixed", _INTEGER)}
      | {_FRACTION.format("plain", _INTEGER)}
      | (?P<mixed>\d+)[ ]+(?P<mixed_numerator>\d+)/(?P<mixed_denominator>\d+)
      | (?P<numerator>{_INTEGER})\s*/\s*(?P<denominator>{_INTEGER})
      | (?P<mantissa>{_DECIMAL}|{_INTEGER})\s*(?:\\times|\\cdot|[*x])\s*10\s*(?:\^|\*\*)\s*{_EXPONENT}
      | (?P<base>\d{{1,9}})\s*\^\s*(?:\{{\s*(?P<power_braced>-?\d{{1,3}})\s*\}}|(?P<power_bare>-?\d{{1,3}}))
      | (?P<start>\d{{1,20}}\.\d{{0,20}})\\overline\s*\{{\s*(?P<period>\d{{1,20}})\s*\}}
      | (?P<float>(?:{_DECIMAL}|\d+))[eE](?P<float_exponent>[-+]?\d{{1,3}})
      | (?P<decimal>{_DECIMAL})
      | (?P<integer>{_INTEGER})
    ) \s* (?P<percent>\\?%)?""",
    re.VERBOSE | re.ASCII,
)
_DECIMAL_COMMA = re.compile(r"\s*(?P<sign>[-+]?)(?P<whole>\d+),(?P<places>\d+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as it was written."""

    value: Fraction  # before a percent sign is looked at
    places: int | None = None  # decimals behind the point, where it was written with one
    percent: bool = False
    currency: str = ""  # its sign


def number_of(text: str) -> Number | None:
    """Give the number that ``text`` spells, or None where it is anything else.

    Integers (thousands set apart by commas or spaces), fractions, mixed numbers, decimals, recurring ones too, powers
    and scientific notation, each with a sign, a currency in front and a percent sign behind. Allowed around it: white
    space, one pair of ``$`` or ``\\(``, one full stop behind. Digits are ASCII: another script's are not read.
    """
    if len(text) > LONGEST:
        return None
    text = text.strip().removesuffix(".").strip().replace("\u2212", "-")
    for opening, closing in (("$", "$"), ("\\(", "\\)")):
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    match = _NUMBER.fullmatch(text)
    if match is None or (match["sign"] and match["inner_sign"]):
        return None
    return _number({name: part.replace(",", "") for name, part in match.groupdict().items() if part})


def exact(text: str) -> Fraction | None:
    """Give the value of the number that ``text`` spells, a percent sign left aside; None where it is anything else."""
    number = number_of(text)
    return None if number is None else number.value


def same(gold: Number, prediction: Number) -> bool:
    """Whether two numbers are equal as answers.

    Exactly, but for two things that every grader allows: a percentage p% stands for p or p/100 where the other side has
    no percent sign, and a decimal with ``LEAST_PLACES`` places or more stands for a number that it is less than one
    unit in its last place away from (0.333333 for 1/3, not 0.3333).
    """
    if gold.currency and prediction.currency and gold.currency != prediction.currency:
        return False
    if gold.percent == prediction.percent:
        return _close(gold.value, prediction.value, _places(gold, prediction))
    return any(
        _close(left, right, _places(gold, prediction)) for left in _readings(gold) for right in _readings(prediction)
    )


def settle(gold: str, prediction: str) -> bool | None:
    """Whether two plain numbers are equal; None where either is not a plain number and a better judge is needed."""
    left, right = number_of(gold), number_of(prediction)
    if left is not None and right is not None and same(left, right):
        return True
    by_comma = _settle_decimal_comma(gold, left, prediction, right)
    if by_comma is not None:
        return by_comma
    return None if left is None or right is None else False


def _settle_decimal_comma(gold: str, left: Number | None, prediction: str, right: Number | None) -> bool | None:
    """Say whether a decimal with a point agrees with what may be one with a comma, 1000,99."""
    if left is not None and left.places:
        other = _comma_as_point(prediction)
        return same(left, other) if other is not None and (right is None or prediction.strip()[0] == "0") else None
    if right is not None and right.places:
        other = _comma_as_point(gold)
        return same(other, right) if other is not None and (left is None or gold.strip()[0] == "0") else None
    return None


def _comma_as_point(text: str) -> Number | None:
    match = _DECIMAL_COMMA.fullmatch(text) if len(text) <= LONGEST else None
    if match is None or len(match["places"]) < 2:
        return None
    return number_of(f"{match['sign']}{match['whole']}.{match['places']}")


def _close(gold: Fraction, prediction: Fraction, places: int | None) -> bool:
    if gold == prediction:
        return True
    if places is None or places < LEAST_PLACES:
        return False
    difference = abs(gold - prediction)
    return difference < Fraction(1, 10**places) and difference <= CLOSE * abs(gold)


def _places(gold: Number, prediction: Number) -> int | None:
    """Count the decimals of the coarser side that was written with a point."""
    return min((n.places for n in (gold, prediction) if n.places is not None), default=None)


def _readings(number: Number) -> tuple[Fraction, ...]:
    return (number.value, number.value / 100) if number.percent else (number.value,)


def _number(parts: dict[str, str]) -> Number | None:
    value = _magnitude(parts)
    if value is None:
        return None
    negative = "-" in (parts.get("sign"), parts.get("inner_sign"))
    point = parts.get("decimal") or parts.get("mantissa") or parts.get("float")
    places = len(point.partition(".")[2]) - _power_of_ten(parts) if point and "." in point else None
    return Number(
        value=-value if negative else value,
        places=places,
        percent="percent" in parts,
        currency=parts.get("currency", ""),
    )


def _magnitude(parts: dict[str, str]) -> Fraction | None:
    """Compute the value without its sign; None where a denominator is 0 or a power is too large."""
    if "whole" in parts:
        return _mixed(parts["whole"], parts["mixed_top"], parts["mixed_bottom"]) if "mixed_sign" not in parts else None
    if "mixed" in parts:
        return _mixed(parts["mixed"], parts["mixed_numerator"], parts["mixed_denominator"])
    if "plain_top" in parts:
        value = _quotient(parts["plain_top"], parts["plain_bottom"])
        return -value if value is not None and parts.get("plain_sign") == "-" else value
    if "numerator" in parts:
        return _quotient(parts["numerator"], parts["denominator"])
    if "base" in parts:
        return _power(int(parts["base"]), int(parts.get("power_braced") or parts["power_bare"]))
    if "period" in parts:
        return _recurring(parts["start"], parts["period"])
    digits = parts.get("mantissa") or parts.get("float") or parts.get("decimal") or parts["integer"]
    return Fraction(digits.replace(" ", "")) * Fraction(10) ** _power_of_ten(parts)


def _power_of_ten(parts: dict[str, str]) -> int:
    return int(parts.get("braced") or parts.get("bare") or parts.get("float_exponent") or 0)


def _mixed(whole: str, top: str, bottom: str) -> Fraction | None:
    part = _quotient(top, bottom)
    return None if part is None or part >= 1 else int(whole) + part


def _quotient(top: str, bottom: str) -> Fraction | None:
    denominator = int(bottom.replace(" ", ""))
    return Fraction(int(top.replace(" ", "")), denominator) if denominator else None


def _recurring(start: str, period: str) -> Fraction:
    """Read 0.1\\overline{6} as 1/10 + (6/9)/10."""
    places = len(start.partition(".")[2])
    return Fraction(start) + Fraction(int(period), (10 ** len(period) - 1) * 10**places)


def _power(base: int, exponent: int) -> Fraction | None:
    if base.bit_length() * abs(exponent) > MOST_BITS or (base == 0 and exponent <= 0):
        return None
    return Fraction(base) ** exponent
