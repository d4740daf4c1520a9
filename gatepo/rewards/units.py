"""What may stand behind a number without changing what it says: 15 cm^2, 18 eggs, but not 2 thirds or 5 theta."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Unit = tuple[tuple[str, int], ...]
"""Units of measurement in one spelling, each with its power: ``(("cm", 2),)``; nouns that are none are not in it."""

# Each line: a unit, then its other spellings; a plural s may follow all of them.
_UNITS = """m meter metre; dm; g gram; s sec second; L l liter litre; N newton; J joule; W watt; V volt; A amp
ampere; Pa pascal; Hz hertz; eV electronvolt; Wh; mol mole; cal calorie; B byte; b bit; in inch inches
; ft foot feet; yd yard; mi mile; kg kilo; lb pound; oz ounce; ton tonne; mL ml; gallon gal
; quart; pint; cup; min minute; h hr hour; day
; week wk; month; year yr; degree deg; rad radian; dollar buck usd USD; cent penny pennies; euro eur EUR; yen; rupee Rs
; ohm; K kelvin; C celsius; F fahrenheit; acre; hectare ha; unit; knot; nm nanometer"""
UNITS = {word: names.split()[0] for names in _UNITS.split(";") for word in names.split()}
# Each prefix, and the units that take it.
_PREFIXES = {
    **{"k kilo": "m g L N J W V A Pa Hz eV Wh mol cal", "u micro": "m g s L N J W V A", "c centi": "m g L"},
    **{"m milli": "m g s L N J W V A Pa mol", "M mega": "W J V Pa Hz eV Wh", "G giga": "W J Pa Hz eV Wh B"},
}
_TIMES = {"k": 3, "u": -6, "c": -2, "m": -3, "M": 6, "G": 9}
# Each line: a unit, its size, and the units that this counts.
_SIZES = """min 60 s; h 3600 s; day 86400 s; week 604800 s; year 12 month; dollar 100 cent; L 1/1000 m3; ha 10000 m2
; N 1000 g m s-2; J 1000 g m2 s-2; W 1000 g m2 s-3; Pa 1000 g m-1 s-2; V 1000 g m2 s-3 A-1; ohm 1000 g m2 s-3 A-2
; Wh 3600000 g m2 s-2; Hz 1 s-1; ft 12 in; yd 36 in; mi 63360 in; lb 16 oz; gallon 16 cup; quart 4 cup; pint 2 cup
; dm 1/10 m; B 8 b"""
SIZES = {line.split()[0]: (Fraction(line.split()[1]), line.split()[2:]) for line in _SIZES.split(";")}
for _prefix, _taken in _PREFIXES.items():
    _short, _word = _prefix.split()
    for _name in _taken.split():
        _size, _base = SIZES.get(_name, (Fraction(1), [_name]))
        SIZES[_short + _name] = (_size * Fraction(10) ** _TIMES[_short], _base)
        _long = [_word + other for other, name in list(UNITS.items()) if name == _name and len(other) > 3]
        UNITS |= dict.fromkeys([_short + _name, *_long], _short + _name)
UNITS |= {word.lower(): name for word, name in UNITS.items() if len(word) > 2}
_CHINESE = """m 米 公尺; cm 厘米 公分; mm 毫米; km 千米 公里; dm 分米; kg 千克 公斤; g 克; L 升; mL 毫升; s 秒; min 分钟
; h 小时; day 天 日; week 周 星期; month 个月; year 年; yuan 元 块; degree 度; kmh 千米每小时"""
UNITS |= {word: names.split()[0] for names in _CHINESE.split(";") for word in names.split()[1:]}
CURRENCIES = {"\u00a7": "dollar", "€": "euro", "£": "lb", "¥": "yen", "₹": "rupee"}  # a pound is a pound
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
BEHIND = {"squared": 2, "cubed": 3}
COMPOUND = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}, "fps": {"ft": 1, "s": -1}}
for _word in ("米", "厘米", "分米", "毫米", "千米"):
    COMPOUND |= {"平方" + _word: {UNITS[_word]: 2}, "立方" + _word: {UNITS[_word]: 3}}
UNITS |= {word: word for word in COMPOUND}
PER = {
    **{("h", "min"): 60, ("h", "s"): 3600, ("min", "s"): 60, ("degree", "'"): 60, ("day", "h"): 24, ("week", "day"): 7},
    **{("ft", "in"): 12, ("yd", "ft"): 3, ("lb", "oz"): 16, ("year", "month"): 12, ("dollar", "cent"): 100},
    **{("m", "cm"): 100, ("km", "m"): 1000, ("kg", "g"): 1000},
}
"""How many of a unit make up a larger one, where both may stand beside each other."""
SCALES = {"百": 100, "千": 10**3, "万": 10**4, "亿": 10**8}
SCALES |= {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
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
_WAYS = """way possibilitie arrangement combination choice option permutation solution outcome method case answer
thi clas selection pos"""
"""Nouns that count nothing in particular, without the s of their plural."""


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


def in_base_units(unit: Unit) -> tuple[Fraction, Unit]:
    """Give the size of a unit in base units, and which those are. A unit that is not made of others is its own."""
    size, base = Fraction(1), dict[str, int]()
    for name, power in unit:
        factor, counted = SIZES.get(name, (Fraction(1), [name]))
        size *= factor**power
        for text in counted:
            one = text.rstrip("-123")
            base[one] = base.get(one, 0) + power * int(text[len(one) :] or 1)
    return size, tuple(sorted(item for item in base.items() if item[1]))


def count_other_things(gold: str, prediction: str, measured: tuple[bool, bool]) -> bool:
    """Say whether the nouns behind two numbers name other things: 18 eggs and 18 apples; not 18 eggs and 18 left."""
    if not (gold + prediction).isascii():
        return bool(gold and prediction) and gold not in prediction and prediction not in gold
    ours, theirs = (
        {word.removesuffix("s") for word in nouns.lower().split() if len(word) > 3 and word.endswith("s")}
        - {*_WAYS.split()}
        for nouns in (gold, prediction)
    )
    if any(measured):
        return measured != (True, True) and bool(ours if measured[1] else theirs)
    return bool(ours and theirs) and ours.isdisjoint(theirs)


def differ(gold: Unit, prediction: Unit) -> bool:
    """Whether both say what they count, and it is not the same; $5 may be $5 per hour."""
    shared = {name for name, _ in set(gold) & set(prediction)}
    money = bool(shared & set(CURRENCIES.values())) and len(shared) == min(len(gold), len(prediction))
    return bool(gold) and bool(prediction) and gold != prediction and not money
