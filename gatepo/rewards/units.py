"""What may stand behind a number without changing what it says: 15 cm^2, 18 eggs, but not 2 thirds or 5 theta."""

from __future__ import annotations

Unit = tuple[tuple[str, int], ...]
"""Units of measurement in one spelling, each with its power: ``(("cm", 2),)``; nouns that are none are not in it."""

# Each line: a unit, then its other spellings; a plural s may follow all of them.
_UNITS = """mm millimeter millimetre; cm centimeter centimetre; m meter metre; km kilometer kilometre; in inch inches
; ft foot feet; yd yard; mi mile; mg milligram; g gram; kg kilogram kilo; lb pound; oz ounce; ton tonne
; mL ml milliliter millilitre; L l liter litre; gallon gal; quart; pint; cup; ms millisecond; s sec second; min minute
; h hr hour; day; week wk; month; year yr; degree deg; rad radian; dollar buck usd; cent penny pennies; euro eur; yen
; rupee; N newton; J joule; kJ kilojoule; W watt; kW kilowatt; V volt; A amp ampere; ohm; Pa pascal; kPa kilopascal
; Hz hertz; kHz kilohertz; K kelvin; C celsius; F fahrenheit; mol mole; acre; hectare ha; unit; knot; nm nanometer"""
UNITS = {word: names.split()[0] for names in _UNITS.split(";") for word in names.split()}
UNITS |= {word.lower(): name for word, name in UNITS.items() if len(word) > 2}
CURRENCIES = {"\u00a7": "dollar", "€": "euro", "£": "lb", "¥": "yen"}  # a pound is a pound
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
BEHIND = {"squared": 2, "cubed": 3}
COMPOUND = {"mph": {"mi": 1, "h": -1}, "kph": {"km": 1, "h": -1}, "kmh": {"km": 1, "h": -1}, "fps": {"ft": 1, "s": -1}}
UNITS |= {word: word for word in COMPOUND}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_COUNTING = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty"""
NUMBERS = {word: value for value, word in enumerate(_COUNTING.split())}
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
wrong incorrect false true yes if when abc xyz pqr cannot never isn't aren't don't doesn't can't non nicht kein
keine pas nunca"""
CHANGING = frozenset((*_WORDS.split(), *NUMBERS))


def unit_of(word: str) -> str | None:
    """Give the unit that a word names, in one spelling; None where it names none. The case of two letters counts."""
    name = word.lower() if len(word) > 2 else word
    return UNITS.get(name) or (UNITS.get(name.removesuffix("s")) if len(name) > 2 else None)


def differ(gold: Unit, prediction: Unit) -> bool:
    """Whether both say what they count, and it is not the same. Nothing is converted; $5 may be $5 per hour."""
    shared = {name for name, _ in set(gold) & set(prediction)}
    money = bool(shared & set(CURRENCIES.values())) and len(shared) == min(len(gold), len(prediction))
    return bool(gold) and bool(prediction) and gold != prediction and not money
