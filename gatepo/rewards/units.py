"""What may stand behind a number without changing what it says: 15 cm^2, 18 eggs, but not 2 thirds or 5 theta."""

from __future__ import annotations

import re
from itertools import chain

Unit = tuple[tuple[str, int], ...]
"""Units of measurement in one spelling, each with its power: ``(("cm", 2),)``; nouns that are none are not in it."""

_SPELLINGS = {
    **{"mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre"},
    **{"in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "mg": "milligram", "g": "gram"},
    **{"kg": "kilogram kilo", "lb": "pound", "oz": "ounce", "ton": "tonne", "ml": "milliliter millilitre"},
    **{"l": "liter litre", "gallon": "", "quart": "", "pint": "", "cup": "", "s": "sec second", "min": "minute"},
    **{"h": "hr hour", "day": "", "week": "", "month": "", "year": "yr", "degree": "deg", "radian": "rad"},
    **{"dollar": "buck", "cent": "penny pennies", "euro": "", "yen": ""},
}
_UNITS = {word: unit for unit, words in _SPELLINGS.items() for word in (unit, *words.split())}
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "lb", "¥": "yen"}  # a pound is a pound
_CURRENCY = re.compile(r"\\\$|(?<![$\w])\$(?=\s*\d)(?![^$]*\$)|[€£¥]")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_BEHIND = re.compile(
    r"(?<=[\d})%])(?P<words>(?:\s+(?:per\s+|/\s*)?[A-Za-z]{3,}\.?){1,4}|\s+(?:[cmk]?m|k?g|m?l|s|h|ft|in|lbs?|oz|yd|mi|hrs?))"
    r"(?:\s*\^\s*\{?\s*(?P<power>[23])\s*\}?)?\s*\Z"
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Words that make another number of the one before them, or take it back. Those of a scale are worked out elsewhere.
_CHANGING = frozenset(
    chain.from_iterable(
        words.split()
        for words in (
            "dozen dozens score pair pairs couple half halves hundred hundreds lakh crore zero zeros zeroes digit",
            "third thirds fourth fourths quarter quarters fifth fifths sixth sixths seventh sevenths eighth eighths",
            "ninth ninths tenth tenths eleventh elevenths twelfth twelfths hundredth hundredths thousandth thousandths",
            "millionth millionths one two three four five six seven eight nine ten eleven twelve thirteen fourteen",
            "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety",
            "thousands millions billions trillions point dot basis permille",
            "factorial squared cubed root sqrt inverse inverted reciprocal conjugate transpose prime power raised mod",
            "modulo base plus minus times over divided multiplied added subtracted increased decreased choose",
            "negative doubled double tripled triple twice thrice halved repeating recurring repeated below under",
            "greater smaller than sin cos tan sec csc cot sinh cosh tanh arcsin arccos arctan log exp max gcd lcm",
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda sigma tau upsilon phi chi psi omega rho",
            "not nor neither either unless except but maybe perhaps versus without between through until till wrong",
            "incorrect false true yes to is if when for abc xyz pqr",
        )
    )
)


def split(text: str) -> tuple[str, str, int]:
    """Give (quantity, words behind it, their power) of 15 cm^2; the words are empty where the text is all quantity."""
    match = _BEHIND.search(text)
    if match is None:
        return text, "", 1
    words = match["words"].lower().replace("mph", "miles per hour")
    return text[: match.start()].strip(), words, int(match["power"] or 1)


def keep_the_number(words: str) -> bool:
    """Whether the words are a unit or a noun. Without a vowel they are letters of a formula, but for known units."""
    return all(
        _name(word) in _UNITS or (word not in _CHANGING and re.search("[aeiouy]", word) is not None)
        for word in re.findall(r"[a-z]+", words)
    )


def unit(words: str, power: int) -> Unit:
    """Give the units of measurement among the words."""
    found: list[tuple[str, int]] = []
    for word in re.findall(r"[a-z]+", words):
        power = _POWERS.get(word, power)
        if _name(word) in _UNITS:
            found.append((_UNITS[_name(word)], power))
            power = 1
    return tuple(found)


def currency(text: str) -> Unit:
    """Give the currency whose sign stands in a text."""
    match = _CURRENCY.search(text)
    return () if match is None else ((_CURRENCIES[match[0][-1]], 1),)


def differ(gold: Unit, prediction: Unit) -> bool:
    """Whether both say what they count, and it is not the same. Nothing is converted."""
    return any(one != other for one, other in zip(gold, prediction, strict=False))


def _name(word: str) -> str:
    return word if word in _UNITS else word.removesuffix("s")
