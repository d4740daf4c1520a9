"""What may stand behind a number without changing what it says: 15 cm^2, 18 eggs, but not 2 thirds or 5 theta."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Unit = tuple[tuple[str, int], ...]
"""Units of measurement in one spelling, each with its power: ``(("cm", 2),)``; nouns that are none are not in it."""

# Each line: a unit, then its other spellings; a plural s may follow all of them.
_UNITS = """m meter metre; g gram; s sec second; L l liter litre; N newton; J joule; W watt; V volt; A amp ampere
; Pa pascal; Hz hertz; eV electronvolt; Wh; mol mole; cal calorie; B byte; b bit; in inch inches; ft foot feet; yd yard
; mi mile; kg kilo; lb pound; oz ounce; ton tonne; mL ml; gallon gal; quart; pint; cup; min minute; h hr hour; day
; week wk; month; year yr; degree deg; rad radian; dollar buck usd USD; cent penny pennies; euro eur EUR; yen; rupee Rs
; ohm; K kelvin; C celsius; F fahrenheit; acre; hectare ha; unit; knot; nm nanometer"""
UNITS = {word: names.split()[0] for names in _UNITS.split(";") for word in names.split()}
# Each prefix, and the units that take it.
_PREFIXES = {
    **{"k kilo": "m g L N J W V A Pa Hz eV Wh mol cal", "u micro": "m g s L N J W V A", "c centi": "m g L"},
    **{"m milli": "m g s L N J W V A Pa mol", "M mega": "W J V Pa Hz eV Wh", "G giga": "W J Pa Hz eV Wh B"},
}
for _prefix, _taken in _PREFIXES.items():
    _short, _word = _prefix.split()
    for _name in _taken.split():
        _long = [_word + other for other, name in list(UNITS.items()) if name == _name and len(other) > 3]
        UNITS |= dict.fromkeys([_short + _name, *_long], _short + _name)
UNITS |= {word.lower(): name for word, name in UNITS.items() if len(word) > 2}
CURRENCIES = {"\u00a7": "dollar", "€": "euro", "£": "lb", "¥": "yen", "₹": "rupee"}  # a pound is a pound
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
BEHIND = {"squared": 2, "cubed": 3}
COMPOUND = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}, "fps": {"ft": 1, "s": -1}}
UNITS |= {word: word for word in COMPOUND}
PER = {
    **{("h", "min"): 60, ("h", "s"): 3600, ("min", "s"): 60, ("degree", "'"): 60, ("day", "h"): 24, ("week", "day"): 7},
    **{("ft", "in"): 12, ("yd", "ft"): 3, ("lb", "oz"): 16, ("year", "month"): 12, ("dollar", "cent"): 100},
    **{("m", "cm"): 100, ("km", "m"): 1000, ("kg", "g"): 1000},
}
"""How many of a unit make up a larger one, where both may stand beside each other."""
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_COUNTING = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty"""
NUMBERS = {word: value for value, word in enumerate(_COUNTING.split())}
_TENS = ["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS |= {word: 10 * n for n, word in enumerate(_TENS, start=3)}
_FRACTIONS = ["half", "third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
PARTS = {word + end: n for n, word in enumerate(_FRACTIONS, start=2) for end in ("", "s")} | {"halves": 2}
PARTS |= {"fourth": 4, "fourths": 4}
# Words that make another number of the one beside them, or take it back.
_WORDS = """dozen dozens score pair pairs couple half halves hundred hundreds lakh crore zeros zeroes digit digits third
thirds fourth fourths quarter quarters fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth
tenths eleventh elevenths twelfth twelfths hundredth hundredths thousandth thousandths millionth millionths thirty forty
fifty sixty seventy eighty ninety thousands millions billions trillions point dot basis permille factorial squared
cubed root sqrt inverse inverted reciprocal conjugate transpose prime power raised mod modulo base plus minus times
over divided multiplied added subtracted increased decreased choose negative doubled double tripled triple twice
thrice halved repeating recurring repeated below under greater smaller than less more least most sin cos tan sec
csc cot log exp max gcd lcm alpha beta gamma delta epsilon zeta eta theta iota kappa lambda sigma tau upsilon phi
chi psi omega rho not nor neither either unless except but maybe perhaps versus without between through until till
question problem exercise step example
wrong incorrect false true yes if when abc xyz pqr cannot never isn't aren't don't doesn't can't non nicht kein
keine pas nunca"""
CHANGING = frozenset((*_WORDS.split(), *NUMBERS))


def spelled(words: Sequence[str]) -> tuple[Fraction, int]:
    """Give the value of the number words that a text begins with, and how many of its words they are."""
    total, part, taken = Fraction(0), Fraction(0), 0
    for at, word in enumerate(words):
        if word in NUMBERS and part % (10 if NUMBERS[word] < 10 else 100) == 0:
            part += NUMBERS[word]
        elif word in PARTS and taken:
            return (total + part) / PARTS[word], at + 1
        elif word == "hundred" and taken:
            part *= 100
        elif word in SCALES and taken:
            total, part = total + part * SCALES[word], Fraction(0)
        elif word in ("and", "-") and taken:
            continue
        else:
            break
        taken = at + 1
    return total + part, taken


def unit_of(word: str) -> str | None:
    """Give the unit that a word names, in one spelling; None where it names none. The case of two letters counts."""
    name = word.lower() if len(word) > 2 else word
    return UNITS.get(name) or (UNITS.get(name.removesuffix("s")) if len(name) > 2 else None)


def differ(gold: Unit, prediction: Unit) -> bool:
    """Whether both say what they count, and it is not the same. Nothing is converted; $5 may be $5 per hour."""
    shared = {name for name, _ in set(gold) & set(prediction)}
    money = bool(shared & set(CURRENCIES.values())) and len(shared) == min(len(gold), len(prediction))
    return bool(gold) and bool(prediction) and gold != prediction and not money
