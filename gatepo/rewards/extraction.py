"""Where a response says its answer: between the paper's tags, in ``\\boxed``, or, failing both, at its end.

Everything here runs in time linear in the text and compares strings only.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from gatepo.rewards.tags import CONTROL, answer_text

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_JOINS = re.compile(r",|;|\band\b|\bor\b")
_JOINT = 30  # characters between two boxes that are one answer, as in \boxed{1} and \boxed{2}
_MOST_BOXES = 64  # that are looked at, from the end
_SHORT = 200  # characters of a response that may be nothing but its answer
_PHRASE = re.compile(r"(?:\banswer is|\banswer\s*:|####)\s*:?\s*", re.IGNORECASE)
_HOPE = re.compile(r"\.?\s*I hope it is correct", re.IGNORECASE)
_MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,300})\$\$|\$(?P<inline>(?:\\\$|[^$\n]){1,300})\$"
    r"|\\\((?P<round>.{1,300}?)\\\)|\\\[(?P<square>.{1,300}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![\w.,/^{\\])(?:-(?=[\d.$])|-(?=\\\$))?\\?[$€£¥]?"
    r"(?:\d{1,3}(?:,(?:\\!)?\d{3})+|\d+(?:,\d+)?|(?=\.\d))(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?",
    re.ASCII,
)
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]*[a-z]{2,}(?![A-Za-z(])|[^\W\d_a-zA-Z\u0370-\u03ff]{2,}")
_TEXT = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}")
_NO_ANSWER = frozenset(
    ("answer", "answers", "is", "are", "the", "so", "thus", "therefore", "hence", "definitely", "solution")
)
_LABEL = re.compile(r"[A-Za-z]\s*:\s")
_SMALL_WORDS = frozenset(("and", "or", "pi", "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "percent", "pct"))


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}``, or None where there is none or it is not closed.

    Boxes that follow each other as in ``\\boxed{1} and \\boxed{2}`` are one answer, joined by commas.
    """
    contents: list[str] = []
    end_of_gap = len(text)
    for match in reversed(deque(_BOX.finditer(text), maxlen=_MOST_BOXES)):
        end = _closing(text, match.end())
        if end is None:
            return None if not contents else ", ".join(contents)
        if contents and not _joined(text[end + 1 : end_of_gap]):
            break
        content = text[match.end() : end].strip()
        if content not in contents:
            contents.insert(0, content)
        end_of_gap = match.start()
    return ", ".join(contents) if any(contents) else None


def final_answer(text: str) -> str | None:
    """Give the answer of a response without tags: its last box, else what it says at its end.

    A short response that holds no prose is its own answer. Else it is what follows "the answer is", "answer:" or
    "####"; else the last formula or number. None where there is nothing of the kind, or where a box or a formula was
    opened and never closed: the response was cut off.
    """
    text = CONTROL.sub(" ", text).replace("**", " ").strip()
    if _BOX.search(text) is not None:
        return boxed(text)
    if _is_cut_off(text):
        return None
    said = _said(text)
    if said is not None:
        return said
    return (text or None) if _is_bare(text) else _last(text)


def tagged_or_boxed(text: str) -> str | None:
    """Give the answer between the tags, else in the last box."""
    return answer_text(text) or boxed(text)


def anywhere(text: str) -> str | None:
    """Give the answer between the tags, else in the last box, else at the end."""
    return answer_text(text) or final_answer(text)


EXTRACTIONS: dict[str, Callable[[str], str | None]] = {
    "tags": answer_text,
    "boxed": tagged_or_boxed,
    "auto": anywhere,
}
"""By the name in ``reward.extraction``. Training takes the tags alone (eq. 11)."""


def _closing(text: str, start: int) -> int | None:
    """Find where the brace that was opened before ``start`` is closed."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return None


def _joined(gap: str) -> bool:
    return len(gap) <= _JOINT and "\n" not in gap and ". " not in gap and _JOINS.search(gap) is not None


def _is_cut_off(text: str) -> bool:
    """Say whether the text ends inside a formula."""
    return any(text.rfind(opening) > text.rfind(closing) for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")))


def _is_bare(text: str) -> bool:
    """Say whether a text is only an answer: short, and no words but those of a unit, a name or a list."""
    if len(text) > _SHORT or "\n\n" in text or _LABEL.search(text) is not None:
        return False
    words = [word.lower() for word in _PROSE.findall(_TEXT.sub("", text))]
    return sum(word not in _SMALL_WORDS for word in words) <= 1 and _NO_ANSWER.isdisjoint(words)


def _said(text: str) -> str | None:
    """Find what the response calls its answer, the last time it does."""
    phrases = deque(_PHRASE.finditer(text), maxlen=1)
    if not phrases:
        return None
    line = _HOPE.split(text[phrases[0].end() :].split("\n", 1)[0], maxsplit=1)[0].strip()
    if _is_bare(line):
        return line or None
    formula = _MATH.match(line)
    return _content(formula) if formula is not None else _last(line)


def _last(text: str) -> str | None:
    """Find the last formula or number, whichever ends later; a formula without a digit only where no number is."""
    formulas = [match for match in _MATH.finditer(text) if _is_bare(_content(match))]
    numbers = deque(_NUMBER.finditer(_blank(text, formulas)), maxlen=1)
    with_digits = [match for match in formulas if re.search(r"\d", _content(match))]
    candidates = [(m.end(), _content(m)) for m in with_digits[-1:]] + [(m.end(), m[0]) for m in numbers]
    candidates = candidates or [(m.end(), _content(m)) for m in formulas[-1:]]
    return max(candidates)[1].strip() if candidates else None


def _blank(text: str, matches: list[re.Match[str]]) -> str:
    """Put spaces in place of the matches."""
    pieces, position = [], 0
    for match in matches:
        pieces += [text[position : match.start()], " " * (match.end() - match.start())]
        position = match.end()
    return "".join([*pieces, text[position:]])


def _content(match: re.Match[str]) -> str:
    return next(part for part in match.groupdict().values() if part is not None)
