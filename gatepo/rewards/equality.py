"""Whether two answers are equal by their spelling, without a computer algebra system.

:func:`settle` says None where it cannot know; :mod:`gatepo.rewards.judge` calls it with math-verify for the parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import gatepo.rewards.units as units
from gatepo.rewards.numbers import settle as settle_numbers
from gatepo.rewards.spelling import WORDS, Answer, answer_of, unreadable

Judge = Callable[[str, str], bool | None]
"""Whether two expressions (gold, prediction) are equal; None: not known."""


def settle(gold: str, prediction: str, judge: Judge = lambda gold, prediction: None) -> bool | None:
    """Whether two answers are equal, asking ``judge`` where their spelling does not decide it."""
    if gold.strip() == prediction.strip():
        return bool(gold.strip())
    if unreadable(prediction) is not None or unreadable(gold) is not None:
        return False
    by_number = settle_numbers(gold, prediction)
    if by_number is not None:
        return by_number
    left, right = answer_of(gold), answer_of(prediction)
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


def _names_agree(gold: str, prediction: str) -> bool:
    """Decide about names: x = 5 is 5, but not y = 5; 5 is not the equation x + y = 5; a + b = 5 says a sum is 5."""
    if not gold or not prediction or "=" in (gold, prediction):
        return "+" not in gold
    return gold == prediction or {gold[0], prediction[0]} == {"y", "f"}


_ORDERED = frozenset("([")
# Equal when they read equal: times, dates, ratios, digits with their base, minutes and feet (5'), inverse functions.
_LITERAL = re.compile(r":|\d{4}-\d\d?-\d|\d_(?:\d|\{\d+\}$)|\d'|(?<![A-Za-z])[fghFGH]\^\{?-1\}?\(")


def _compare_items(gold: Answer, prediction: Answer, judge: Judge) -> bool | None:
    """Compare lists of one kind. Brackets give order; a bare list is a set unless the gold has names or brackets."""
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
    """Put the items of both in one order: of y = 4, x = 3 that of (x, y) = (3, 4), or of the alphabet."""
    names = {item.name for item in prediction.items if item.name}
    if len(names) < len(prediction.items):
        return gold.items, prediction.items
    right = sorted(prediction.items, key=_letters)
    if all(item.name for item in gold.items):
        return sorted(gold.items, key=_letters), right
    order = gold.name.strip("()").split(",")
    return gold.items, sorted(right, key=lambda item: order.index(item.name)) if names == set(order) else right


def _repeats_a_name(answer: Answer) -> bool:
    """Say whether it is two values of one unknown, x = 1, x = 2, and so no pair."""
    names = [item.name for item in answer.items if item.name]
    return len(set(names)) < len(names)


def _letters(item: Answer) -> str:
    return item.name.lstrip("\\").casefold()


def _kinds_agree(gold: Answer, prediction: Answer) -> bool:
    """Accept the same brackets; or one bare, and the other no interval nor, on the gold side alone, a pair."""
    kinds = (gold.opening + gold.closing, prediction.opening + prediction.closing)
    return kinds[0] == kinds[1] or kinds in (("{}", ""), ("", "{}"), ("()", ""))


def _match(gold: Sequence[Answer], prediction: Sequence[Answer], judge: Judge) -> bool | None:
    """Say whether two lists hold the same items in any order."""
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
    """Say whether it stands for more items than it spells."""
    return "\\pm" in answer.text or "\\mp" in answer.text or "\\dots" in answer.text or "\\ldots" in answer.text


def _differ_in_kind(gold: Answer, prediction: Answer) -> bool:
    """Return whether one is a number and the other a word or a list of several."""
    for one, other in ((gold, prediction), (prediction, gold)):
        if one.number is not None and (len(other.items) > 1 or _is_word(other.text) or re.search(r"[,:]", other.text)):
            return not _is_open(other) or one is gold
    return False


def _is_word(text: str) -> bool:
    return len(text) > 1 and WORDS.fullmatch(text) is not None


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
    """Read a word or the letter of a choice, however it is set. Two letters may be variables: their case counts."""
    plain = re.sub(r"[\s.]+|(?<=[A-Za-z]{2})-(?=[A-Za-z]{2})", " ", text.strip("() ")).strip()
    return plain.casefold() if len(plain) > 2 or plain.casefold() == "no" else plain
