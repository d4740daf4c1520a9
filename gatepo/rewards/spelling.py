"""Answers as people write them, read into one spelling: LaTeX, words, lists, sets and intervals.

Every step is bounded: a text longer than ``LONGEST`` or nested deeper than ``DEEPEST`` is not read at all.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import gatepo.rewards.units as units
from gatepo.rewards.numbers import Number, number_of

LONGEST = 1000  # characters of an answer; the longest gold answer of MATH, GSM8K, AIME and DeepMath has 159
DEEPEST = 30  # brackets within each other
MOST_ITEMS = 64  # of a list


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
    """Say why an answer is not read at all, or None.

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
WORDS = re.compile(r"[A-Za-z][A-Za-z' .]*")
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
def answer_of(text: str) -> Answer | None:
    """Read an answer into one spelling; None where it says nothing, or contradicts itself (1=2=7)."""
    spelled = spelling(text)
    if not spelled or _depth(spelled) > DEEPEST:
        return None
    answer = _read(spelled)
    return answer if answer is None or answer.unit else replace(answer, unit=units.currency(text))


def spelling(text: str) -> str:
    """Give one text for the many spellings of the same LaTeX."""
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
    if len(items) > 1 and number_of(text) is None:
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
    """Read one of several answers set apart by semicolons: p=5, q=2 is the pair (5, 2)."""
    parts = _split(text, ",")
    return f"({text})" if len(parts) > 1 else text


def _single(text: str) -> Answer:
    unit: units.Unit = ()
    number = number_of(text)
    if number is None:
        text, unit = _without_unit(text)
        number = number_of(text)
    return Answer(text=text if number is not None else _squeeze(text), latex=text, number=number, unit=unit)


def _assignment(text: str) -> tuple[str, str | None]:
    """Return (name, value) of x = 5 or of 2 + 3 = 5, without name; ("", text) of an equation; value None if absurd."""
    sides = _sides(text)
    if len(sides) == 1 or not all(sides) or len(_split(text, ",")) > 1:
        return "", text
    plain = [number.value for number in map(number_of, sides) if number is not None]
    if len(set(plain)) > 1 or _FOLLOWS.search(text) is not None:
        return "", None
    if _NAME.fullmatch(sides[0]):
        return sides[0], sides[-1]
    if _OPERATORS.match(sides[0]) or not re.search(r"[A-Za-z]", _COMMAND.sub("", sides[0])):
        return "=", sides[-1]
    return "", text


def _arithmetic(text: str) -> tuple[Answer, ...]:
    """List the sides of a chain, but for the last, that hold only numbers: what they come to can be worked out."""
    return tuple(_single(side) for side in _sides(text)[:-1] if _ARITHMETIC.fullmatch(side) is not None)


def _sides(text: str) -> list[str]:
    """Return what stands between the equals signs that no bracket holds."""
    cuts, depth = [], 0
    for match in _TOKEN.finditer(text):
        depth += (match[0] in _CLOSES) - (match[0] in _CLOSES.values())
        if depth == 0 and _EQUALS.match(text, match.start()):
            cuts.append(match.start())
    return [text[start + 1 : end].strip() for start, end in pairwise((-1, *cuts, len(text)))]


def _without_unit(text: str) -> tuple[str, units.Unit]:
    """Take the unit off a quantity: 15 cm^2. A word that scales is worked out; others that are no units stay."""
    core, words, power = units.split(text)
    first = words.split()[0] if words else ""
    if not words or (len(first) < 3 and number_of(core) is None and not core.endswith("}")):
        return text, ()
    if first in units.SCALES:
        scaled = number_of(core)
        rest = words.replace(first, "", 1)
        if scaled is None or not units.keep_the_number(rest):
            return text, ()
        return _spelled(scaled, units.SCALES[first]), units.unit(rest, power)
    return (core, units.unit(words, power)) if units.keep_the_number(words) else (text, ())


def _spelled(number: Number, scale: int) -> str:
    value = number.value * scale
    return f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)


def _without_approximation(text: str) -> str:
    """Make x = 1/3 of x = 1/3 \\approx 0.33, and x = 11 of x \\approx 11."""
    exact, found, rounded = text.partition("\\approx")
    if not found:
        return text
    if _contradict(exact, rounded):
        return ""
    return f"{exact} = {rounded}" if _NAME.fullmatch(exact.strip()) else exact.strip()


def _contradict(exact: str, rounded: str) -> bool:
    """Say whether two plain numbers are further apart than rounding the second takes them: 3 and 4."""
    one, other = number_of(exact), number_of(rounded)
    return one is not None and other is not None and abs(one.value - other.value) * 10 ** (other.places or 0) >= 1


def _unwrap(text: str) -> str:
    """Take off the delimiters, full stops and emphasis around the whole of it."""
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
    """Take off a LaTeX group {...} around the whole of a text, which means nothing."""
    while text.startswith("{") and _closes_at_the_end(text, 0):
        text = text[1:-1].strip()
    return text


def _closes_at_the_end(text: str, start: int) -> bool:
    """Say whether the brace at ``start`` is closed by the last character."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end() == len(text)
    return False


def _brackets(text: str) -> tuple[str, str, str]:
    """Return (opening, body, closing) where one pair of brackets holds the whole text, else ("", text, "")."""
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
    """Split a text at separators that no bracket holds; thousands keep their commas."""
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
    """Say whether this comma sets thousands apart: 1,234 but not 1, 234 nor 12,34."""
    before = re.search(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})*\Z", text[max(0, comma - 20) : comma])
    return before is not None and re.match(r",\d{3}(?!\d)", text[comma : comma + 5]) is not None


def _squeeze(text: str) -> str:
    """Take out spaces that mean nothing (1 5 is not 15); write every sign of multiplication as ``*``."""
    text = re.sub(r"\\(?:cdot|times)(?![A-Za-z])", "*", text.strip())
    if WORDS.fullmatch(text):
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
