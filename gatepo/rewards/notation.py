"""Answers as people write them: one text for the many spellings of the same LaTeX, and lists, sets and intervals.

``settle`` compares two answers without a computer algebra system and says None where it cannot know; :mod:`judge` calls
``compare`` with math-verify for the parts. Every step is bounded: a text longer than ``LONGEST`` or nested deeper than
``DEEPEST`` is not read at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import gatepo.rewards.units as units
from gatepo.rewards.numbers import Number
from gatepo.rewards.numbers import read as read_number
from gatepo.rewards.numbers import settle as settle_numbers

LONGEST = 1000  # characters of an answer; the longest gold answer of MATH, GSM8K, AIME and DeepMath has 159
DEEPEST = 30  # brackets within each other
MOST_ITEMS = 64  # of a list

Judge = Callable[[str, str], bool | None]
"""Whether two expressions (gold, prediction) are equal; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer in one spelling.

    ``text`` is all of it but an assignment's name, without spaces; ``items`` is empty unless it is a list or a set.
    """

    text: str
    latex: str  # the same as it was written
    name: str = ""  # x in x = 5
    number: Number | None = None
    opening: str = ""  # of a list: "" for a bare one, (, [ or {
    closing: str = ""
    items: tuple[Answer, ...] = ()
    unit: units.Unit = ()
    sides: tuple[Answer, ...] = ()  # of a chain, arithmetic that must come to the same: 2 + 3 in 2 + 3 = 5


def unreadable(text: str) -> str | None:
    """Why an answer is not read at all, or None.

    No answer is worth the time or the risk of these: too long, nested too deep, invisible characters (they hide what a
    reader would see), digits of another script (nobody asked for them, and libraries disagree on what they are), and
    what only a programming language says.
    """
    if len(text) > LONGEST:
        return "too long"
    if not text.isascii() and not all(map(_is_visible, text)):
        return "invisible characters or another script's digits"
    if _CODE.search(text) is not None or _CONTROL_CHARACTER.search(text) is not None:
        return "not mathematics"
    return "nested too deep" if _depth(text) > DEEPEST else None


def settle(gold: str, prediction: str, judge: Judge = lambda gold, prediction: None) -> bool | None:
    """Whether two answers are equal, asking ``judge`` where their spelling does not decide it."""
    if gold.strip() == prediction.strip():
        return bool(gold.strip())
    if unreadable(prediction) is not None or unreadable(gold) is not None:
        return False
    by_number = settle_numbers(gold, prediction)
    if by_number is not None:
        return by_number
    left, right = read(gold), read(prediction)
    if right is None or not right.text:
        return False
    return None if left is None else compare(left, right, judge)


def compare(gold: Answer, prediction: Answer, judge: Judge) -> bool | None:
    """Whether two answers are equal: by their names, then number by number, word by word, item by item."""
    if not _names_agree(gold.name, prediction.name) or units.differ(gold.unit, prediction.unit):
        return False
    if prediction.sides:
        value = replace(prediction, name="", sides=())
        return _all(compare(side, value, judge) for side in (replace(gold, name=""), *prediction.sides))
    if gold.text == prediction.text and gold.opening == prediction.opening and len(gold.items) == len(prediction.items):
        return True
    if gold.items and prediction.items and not (_is_open(gold) or _is_open(prediction)):
        return _compare_items(gold, prediction, judge)
    if gold.number is not None and prediction.number is not None:
        return settle_numbers(gold.text, prediction.text)
    if _differ_in_kind(gold, prediction):
        return False
    return _compare_texts(gold, prediction, judge)


# --- reading ------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"__|\blambda\b|\bimport\b|[`#;]\s*\w+\s*\(|\w\.\w+\s*\(|\(\)\s*\.|\\(?:input|write|def|csname)\b")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_UNICODE = {
    **{"\u2212": "-", "\u2013": "-", "\u00d7": r"\times ", "\u00f7": "/", "\u00b7": r"\cdot ", "\u22c5": r"\cdot "},
    **{"\u03c0": r"\pi ", "\u221e": r"\infty ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne "},
    **{"\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ", "\u00b1": r"\pm ", "\u2248": r"\approx "},
    **{"\u00b0": r"^\circ ", "\u00b2": "^2", "\u00b3": "^3", "\u221a": r"\sqrt ", "\u2019": "'"},
}
_TRANSLATION = str.maketrans(_UNICODE)
_DEGREE = r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\s*\\degrees?(?![A-Za-z])"
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), (r"\boxed{", "}"), (r"\fbox{", "}"))
# One spelling each, in this order. Every pattern is linear: no quantifier stands inside another.
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\\\(?=(?:left|right|frac|sqrt|boxed|text|pi|infty|cup|le|ge|pm)\b)", r"\\"),
        (r"\\!\s*|\\displaystyle\b|\\limits\b|\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\s*\{\s*,\s*\}\s*", ","),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:text(?:bf|it|rm|normal|sf)?|mathrm|mathbf|mathit|mathsf|mbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\(?:quad|qquad|noindent)(?![A-Za-z])|(?<!\\)\\[,;:> ]|~", " "),
        (rf"(?<=[\d}})])(?:{_DEGREE})\s*\Z", " degrees"),
        (_DEGREE, ""),
        (r"\s*\\?%|\s*\b(?:percent|percentage|per cent|pct)\b", "%"),
        (r"\\?\$", ""),
        (r"\\(?:geq|geqslant)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\(?:leq|leqslant)(?![A-Za-z])|<=", r"\\le "),
        (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
        (r"\\(?:approx|simeq)(?![A-Za-z])|~=", r"\\approx "),
        (r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"\\frac\s*(\w)\s*(\w)(?!\w*\})", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\w)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\w)", r"\1{\2}"),
        (r"(?:\\|(?<![A-Za-z\\]))sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"(?<=\d)_\s*(\d+)", r"_{\1}"),
        (r"\\[dt]?binom\s*(\d)\s*(\d)", r"\\binom{\1}{\2}"),
        (r"\\mathbb\s+([A-Z])", r"\\mathbb{\1}"),
        (r"\+\s*/\s*-|\A\s*\+\s*-", r"\\pm "),
        (r"\s+", " "),
    )
)
_AND = re.compile(r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*,?\s*")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' .]*")
_NAME = re.compile(
    r"(?:\\angle\s*)?(?:\\?[A-Za-z]+(?:_\s*\{?\w+\}?)?'*(?:\s*\([^()=]{1,20}\))?|[A-Z]+\s*:\s*[A-Z]+"
    r"|\\frac\s*\{[A-Z]+\}\s*\{[A-Z]+\}|\(\s*[a-z](?:\s*,\s*[a-z])+\s*\)|[A-Za-z](?:\s*\+\s*[A-Za-z])+)"
)
_MEMBER = re.compile(rf"(?:{_NAME.pattern})\s*\\in(?![A-Za-z])\s*")
_FOLLOWS = re.compile(r"\\(?:Rightarrow|Longrightarrow|Leftrightarrow|implies|iff)(?![A-Za-z])|[=-]>")
_ARITHMETIC = re.compile(r"(?:\\(?:[dtc]?frac|sqrt|cdot|times|left|right)(?![A-Za-z])|[\d\s.+*/^(){}\[\]-])+")
_EQUALS = re.compile(r"(?<![<>!:\\])=(?!=)")
_OPERATORS = re.compile(r"\\(?:lim|int|sum|prod)(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_CLOSES = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
_TOKEN = re.compile(r"\\[{}|\\]|\\[A-Za-z]+|.", re.DOTALL)


@lru_cache(maxsize=1024)  # the G completions of a prompt share their gold answer
def read(text: str) -> Answer | None:
    """An answer in one spelling, or None where it says nothing, or contradicts itself (1=2=7)."""
    spelled = spelling(text)
    if not spelled or _depth(spelled) > DEEPEST:
        return None
    answer = _read(spelled)
    return answer if answer is None or answer.unit else replace(answer, unit=units.currency(text))


def spelling(text: str) -> str:
    """One text for the many spellings of the same LaTeX."""
    text = _unwrap(text.translate(_TRANSLATION))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    text = _unwrap(text)
    return _without_approximation(_MEMBER.sub("", text))


def _read(text: str) -> Answer | None:
    text = _without_group(text.strip())
    listed = _AND.sub(", ", text)
    groups = _split(listed, ";")
    items = [_group(group) for group in groups] if len(groups) > 1 else _split(listed, ",")
    if len(items) > 1 and read_number(text) is None:
        return _list("", "", items, text)
    name, value = _assignment(text)
    if value is None:
        return None
    if name:
        inner = _read(value)
        return None if inner is None else replace(inner, name=_squeeze(name), sides=_arithmetic(text))
    opening, body, closing = _brackets(text)
    if opening:
        parts = _split(body.replace(";", ","), ",")
        if len(parts) > 1 or opening == r"\{":
            return _list(opening.removeprefix("\\"), closing.removeprefix("\\"), parts, text)
        if (opening, closing) in (("(", ")"), ("{", "}")):
            return _read(body)
    return _single(text)


def _list(opening: str, closing: str, parts: list[str], text: str) -> Answer | None:
    parts = [part for part in parts if part.strip()]
    items = [_read(part) for part in parts[: MOST_ITEMS + 1]]
    if not items or len(items) > MOST_ITEMS or None in items:
        return None
    found = tuple(item for item in items if item is not None)
    if opening == "" and len(found) == 1:
        return found[0]
    return Answer(text=_squeeze(text), latex=text, opening=opening, closing=closing, items=found)


def _group(text: str) -> str:
    """One of several answers set apart by semicolons: p=5, q=2 is the pair (5, 2)."""
    parts = _split(text, ",")
    return f"({text})" if len(parts) > 1 else text


def _single(text: str) -> Answer:
    unit: units.Unit = ()
    number = read_number(text)
    if number is None:
        text, unit = _without_unit(text)
        number = read_number(text)
    return Answer(text=text if number is not None else _squeeze(text), latex=text, number=number, unit=unit)


def _assignment(text: str) -> tuple[str, str | None]:
    """(name, value) of x = 5 or of 2 + 3 = 5, whose name is empty; ("", text) of an equation; value None if absurd."""
    sides = _sides(text)
    if len(sides) == 1 or not all(sides) or len(_split(text, ",")) > 1:
        return "", text
    plain = [number.value for number in map(read_number, sides) if number is not None]
    if len(set(plain)) > 1 or _FOLLOWS.search(text) is not None:
        return "", None
    if _NAME.fullmatch(sides[0]):
        return sides[0], sides[-1]
    if _OPERATORS.match(sides[0]) or not re.search(r"[A-Za-z]", _COMMAND.sub("", sides[0])):
        return "=", sides[-1]
    return "", text


def _arithmetic(text: str) -> tuple[Answer, ...]:
    """The sides of a chain, but for the last, that hold nothing but numbers: what they come to can be worked out."""
    return tuple(_single(side) for side in _sides(text)[:-1] if _ARITHMETIC.fullmatch(side) is not None)


def _sides(text: str) -> list[str]:
    """What stands between the equals signs that no bracket holds."""
    cuts, depth = [], 0
    for match in _TOKEN.finditer(text):
        depth += (match[0] in _CLOSES) - (match[0] in _CLOSES.values())
        if depth == 0 and _EQUALS.match(text, match.start()):
            cuts.append(match.start())
    return [text[start + 1 : end].strip() for start, end in pairwise((-1, *cuts, len(text)))]


def _names_agree(gold: str, prediction: str) -> bool:
    """x = 5 is 5, but not y = 5; x + y = 5 is an equation, which 5 is not, while a + b = 5 says that a sum is 5."""
    if not gold or not prediction or "=" in (gold, prediction):
        return "+" not in gold
    return gold == prediction or {gold[0], prediction[0]} == {"y", "f"}


def _without_unit(text: str) -> tuple[str, units.Unit]:
    """A quantity without its unit: 15 cm^2. A word that scales is worked out, and others that are no units stay."""
    core, words, power = units.split(text)
    first = words.split()[0] if words else ""
    if not words or (len(first) < 3 and read_number(core) is None and not core.endswith("}")):
        return text, ()
    if first in units.SCALES:
        scaled = read_number(core)
        rest = words.replace(first, "", 1)
        if scaled is None or not units.keep_the_number(rest):
            return text, ()
        return _spelled(scaled, units.SCALES[first]), units.unit(rest, power)
    return (core, units.unit(words, power)) if units.keep_the_number(words) else (text, ())


def _spelled(number: Number, scale: int) -> str:
    value = number.value * scale
    return f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)


def _without_approximation(text: str) -> str:
    """x = 1/3 \\approx 0.33 is x = 1/3; x \\approx 11 is x = 11."""
    exact, found, rounded = text.partition("\\approx")
    if not found:
        return text
    if _contradict(exact, rounded):
        return ""
    return f"{exact} = {rounded}" if _NAME.fullmatch(exact.strip()) else exact.strip()


def _contradict(exact: str, rounded: str) -> bool:
    """Whether two plain numbers are further apart than rounding the second takes them: 3 and 4."""
    one, other = read_number(exact), read_number(rounded)
    return one is not None and other is not None and abs(one.value - other.value) * 10 ** (other.places or 0) >= 1


def _unwrap(text: str) -> str:
    """Without the delimiters, full stops and emphasis around the whole of it."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip("*").strip()
        text = text.removesuffix("\\").rstrip() if not text.endswith(("\\}", "\\)", "\\]")) else text
        text = text.rstrip(",")
        text = text if text.endswith("..") else text.removesuffix(".").rstrip()  # 0.3... is not 0.3
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                inner = text[len(opening) : -len(closing)]
                if closing not in inner if closing != "}" else _closes_at_the_end(text, len(opening) - 1):
                    text = inner
    return text


def _without_group(text: str) -> str:
    """A LaTeX group {...} around the whole of a text means nothing."""
    while text.startswith("{") and _closes_at_the_end(text, 0):
        text = text[1:-1].strip()
    return text


def _closes_at_the_end(text: str, start: int) -> bool:
    """Whether the brace at ``start`` is closed by the last character."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end() == len(text)
    return False


def _brackets(text: str) -> tuple[str, str, str]:
    """(opening, body, closing) where one pair of brackets holds the whole text, ("", text, "") elsewhere."""
    opening = r"\{" if text.startswith(r"\{") else text[:1]
    closing = r"\}" if text.endswith(r"\}") else text[-1:]
    pairs = (closing == _CLOSES.get(opening)) or (opening in ("(", "[") and closing in (")", "]"))
    if not pairs or len(text) < len(opening) + len(closing):
        return "", text, ""
    depth, end = 0, 0
    for match in _TOKEN.finditer(text):
        depth += (match[0] in _CLOSES) - (match[0] in _CLOSES.values())
        end = match.end()
        if depth <= 0:
            break
    return (opening, text[len(opening) : -len(closing)], closing) if end == len(text) else ("", text, "")


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators that no bracket holds; thousands keep their commas."""
    if separator not in text:
        return [text]
    parts, depth, start = [], 0, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        depth += (token in _CLOSES) - (token in _CLOSES.values())
        if token == separator and depth == 0 and not _in_thousands(text, match.start()):
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]


def _in_thousands(text: str, comma: int) -> bool:
    """Whether this comma sets thousands apart: 1,234 but not 1, 234 nor 12,34."""
    before = re.search(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})*\Z", text[max(0, comma - 20) : comma])
    return before is not None and re.match(r",\d{3}(?!\d)", text[comma : comma + 5]) is not None


def _squeeze(text: str) -> str:
    """Without spaces that mean nothing (1 5 is not 15); every sign of multiplication as ``*``."""
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])", "*", text.strip())
    if _WORDS.fullmatch(text):
        return re.sub(r"\s+", " ", text)
    kept = re.sub(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])|(\d)\s+(?=\d)", "\\1\\2\0", text)
    return re.sub(r"\s+", "", kept).replace("\0", " ")


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in ("Cf", "Cs", "Co", "Cn", "Zl", "Zp") and not (category == "Nd" and not character.isascii())


# --- comparing ----------------------------------------------------------------------------------------------------

_ORDERED = frozenset("([")
# Equal when they read equal: times, dates, ratios, digits with their base, minutes and feet (5'), inverse functions.
_LITERAL = re.compile(r":|\d{4}-\d\d?-\d|\d_(?:\d|\{\d+\}$)|\d'|(?<![A-Za-z])[fghFGH]\^\{?-1\}?\(")


def _compare_items(gold: Answer, prediction: Answer, judge: Judge) -> bool | None:
    """Lists of one kind. Brackets give order: a bare list is a set unless the gold list names its items or has them."""
    if not _kinds_agree(gold, prediction) or len(gold.items) != len(prediction.items):
        return False
    names = {item.name for item in gold.items if item.name}
    if gold.opening not in _ORDERED and len(names) <= 1:
        return _match(gold.items, prediction.items, judge)
    if _repeats_a_name(prediction) and not _repeats_a_name(gold):
        return False
    left, right = _named_alike(gold, prediction)
    return _all(compare(one, other, judge) for one, other in zip(left, right, strict=True))


def _named_alike(gold: Answer, prediction: Answer) -> tuple[Sequence[Answer], Sequence[Answer]]:
    """The items of both in one order: of y = 4, x = 3 that of (x, y) = (3, 4), or of the alphabet."""
    names = {item.name for item in prediction.items if item.name}
    if len(names) < len(prediction.items):
        return gold.items, prediction.items
    right = sorted(prediction.items, key=_letters)
    if all(item.name for item in gold.items):
        return sorted(gold.items, key=_letters), right
    order = gold.name.strip("()").split(",")
    return gold.items, sorted(right, key=lambda item: order.index(item.name)) if names == set(order) else right


def _repeats_a_name(answer: Answer) -> bool:
    """Whether it is two values of one unknown, x = 1, x = 2, and so no pair."""
    names = [item.name for item in answer.items if item.name]
    return len(set(names)) < len(names)


def _letters(item: Answer) -> str:
    return item.name.lstrip("\\").casefold()


def _kinds_agree(gold: Answer, prediction: Answer) -> bool:
    """The same brackets; or one is bare, and the other neither an interval nor, on the gold side alone, a pair."""
    kinds = (gold.opening + gold.closing, prediction.opening + prediction.closing)
    return kinds[0] == kinds[1] or kinds in (("{}", ""), ("", "{}"), ("()", ""))


def _match(gold: Sequence[Answer], prediction: Sequence[Answer], judge: Judge) -> bool | None:
    """Whether two lists hold the same items in any order."""
    left = list(gold)
    unknown = False
    for item in prediction:
        verdicts = [compare(other, item, judge) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unknown = True
        else:
            return False
    return None if unknown else True


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _is_open(answer: Answer) -> bool:
    """Whether it stands for more items than it spells."""
    return "\\pm" in answer.text or "\\mp" in answer.text or "\\dots" in answer.text or "\\ldots" in answer.text


def _differ_in_kind(gold: Answer, prediction: Answer) -> bool:
    """A number is neither a word nor a list of several."""
    for one, other in ((gold, prediction), (prediction, gold)):
        if one.number is not None and (len(other.items) > 1 or _is_word(other.text) or re.search(r"[,:]", other.text)):
            return not _is_open(other) or one is gold
    return False


def _is_word(text: str) -> bool:
    return len(text) > 1 and _WORDS.fullmatch(text) is not None


def _compare_texts(gold: Answer, prediction: Answer, judge: Judge) -> bool | None:
    words = _is_word(gold.text), _is_word(prediction.text)
    if any(words):
        if _choice(gold.text) == _choice(prediction.text):
            return True
        if not all(words) or max(len(gold.text), len(prediction.text)) > 3:
            return False
    if any(_LITERAL.search(answer.text) for answer in (gold, prediction)):
        return False
    return judge(gold.latex, prediction.latex)


def _choice(text: str) -> str:
    """A word or the letter of a choice, however it is set. Two letters may be variables: their case counts."""
    plain = re.sub(r"[\s.]+|(?<=[A-Za-z]{2})-(?=[A-Za-z]{2})", " ", text.strip("() ")).strip()
    return plain.casefold() if len(plain) > 2 or plain.casefold() == "no" else plain
