"""Answers that are plain numbers, settled exactly and without a computer algebra system."""

from __future__ import annotations

import re
from fractions import Fraction

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+\u2212]?)\s*
    (?: \\[dt]?frac\{{\s*(?P<top>{_INTEGER})\s*\}}\{{\s*(?P<bottom>{_INTEGER})\s*\}}
      | (?P<numerator>{_INTEGER})\s*/\s*(?P<denominator>{_INTEGER})
      | (?P<decimal>{_INTEGER}\.\d+|\.\d+)
      | (?P<integer>{_INTEGER})
    )""",
    re.VERBOSE | re.ASCII,
)
LONGEST = 400  # characters; a longer text is not a plain number that anybody asked for


def exact(text: str) -> Fraction | None:
    """The number that ``text`` spells, or None where it is anything but one integer, fraction or decimal.

    Allowed around it: white space, one pair of ``$`` or ``\\(``, a dollar sign in front, one full stop behind.
    Thousands may be set apart by commas.
    """
    if len(text) > LONGEST:
        return None
    text = text.strip().removesuffix(".").strip()
    for opening, closing in (("$", "$"), ("\\(", "\\)")):
        if len(text) > 2 and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip()
    match = _NUMBER.fullmatch(text.removeprefix("\\$").removeprefix("$").strip())
    return None if match is None else _value(match)


def settle(gold: str, prediction: str) -> bool | None:
    """Whether two plain numbers are equal; None where either is not a plain number and a better judge is needed."""
    left, right = exact(gold), exact(prediction)
    return None if left is None or right is None else left == right


def _value(match: re.Match[str]) -> Fraction | None:
    parts = {name: text.replace(",", "") for name, text in match.groupdict().items() if text}
    top = parts.get("top") or parts.get("numerator")
    bottom = parts.get("bottom") or parts.get("denominator")
    if top and bottom:
        if int(bottom) == 0:
            return None
        value = Fraction(int(top), int(bottom))
    else:
        value = Fraction(parts.get("decimal") or parts["integer"])
    return value if parts.get("sign", "+") == "+" else -value
