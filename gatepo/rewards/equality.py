"""Whether two answers are equal, as far as that shows without a computer algebra system.

:func:`settle` says None where it cannot know; :mod:`gatepo.rewards.judge` calls it with a judge for the expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gatepo.rewards.grammar import read
from gatepo.rewards.numbers import Number, number_of, same
from gatepo.rewards.shapes import derivative, shaped
from gatepo.rewards.tokens import unreadable
from gatepo.rewards.trees import BINDING, ONE, Tree, names_in, parts, replaced, unknowns
from gatepo.rewards.units import Unit, count_other_things, differ, in_base_units

Judge = Callable[[Tree, Tree], bool | None]
"""Whether two trees (gold, prediction) are equal; None: not known."""
_SETS = ("l", "&", "\\cup", "\\cap", "\\setminus")
_DIFFERENTIALS = (("v", "d"), ("v", "partial"))
_PLAIN = re.compile(r"-?\d{1,30}", re.ASCII)
_DECIMAL_COMMA = re.compile(r"-?\d+,\d\d+", re.ASCII)


def settle(gold: str, prediction: str, judge: Judge = lambda gold, prediction: None) -> bool | None:
    """Whether two answers are equal, asking ``judge`` where their trees do not decide it."""
    gold, prediction = gold.strip(), prediction.strip()
    if gold == prediction:
        return bool(gold)
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(prediction):
        return int(gold) == int(prediction)
    if unreadable(prediction) is not None or unreadable(gold) is not None:
        return False
    left, right = read(gold), read(prediction)
    return compare(_with_point(gold, right) or left, _with_point(prediction, left) or right, judge)


def _with_point(text: str, other: Tree) -> Tree | None:
    """Read a decimal comma, 1000,99, where the other side is a decimal; 1,234 has a thousand in it."""
    text = text.strip("$ ") if "," in text else ""
    number = number_of(other) if _DECIMAL_COMMA.fullmatch(text) else None
    if number is None or not number.places:
        return None
    return read(text.replace(",", ".")) if text[0] == "0" or number_of(read(text)) is None else None


def compare(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Whether two trees are equal: as relations, lists, ratios, quantities, numbers, words; else the judge decides."""
    if gold == prediction:
        return True
    if gold[0] == prediction[0] == "all" and gold[2] != prediction[2]:  # the name that counts does not matter
        return compare(gold, replaced(prediction, prediction[2], gold[2]), judge)
    gold, prediction = (tree[1] if tree[0] == "all" else tree for tree in (gold, prediction))
    gold, prediction = shaped(gold, prediction), shaped(prediction, gold)
    left, right = (derivative(tree, ("C", "K", "c", "k", "C_1", "c_1")) for tree in (gold, prediction))
    if left is not None and right is not None and left[1] == right[1] and _has_constant(gold, prediction):
        return judge(left[0], right[0])
    heads = {gold[0], prediction[0]}
    if heads in ({"\\cup"}, {"\\cap"}) and sorted(gold[1:], key=repr) == sorted(prediction[1:], key=repr):
        return True
    for kinds, comparing in _BY_HEAD:
        if heads & kinds:
            return comparing(gold, prediction, judge)
    number, other = number_of(gold), number_of(prediction)
    if number is not None and other is not None:
        return same(number, other)
    if "w" in heads:
        return gold[0] == prediction[0] == "w" and _choice(gold[1]) == _choice(prediction[1])
    literal = (("f", "base"), ("f", "prime"))  # equal to what reads the same alone
    if gold[:2] in literal or prediction[:2] in literal or (number is not None and prediction[0] == "v"):
        return False
    return judge(gold, prediction)


def _has_constant(*sides: Tree) -> bool:
    return any(
        name in (("v", "C"), ("v", "K"), ("v", "C_1"), ("v", "c_1")) for side in sides for name in names_in(side)
    )


def _choice(text: str) -> str:
    """Two letters may be variables: their case counts."""
    return text.casefold() if len(text) > 2 or text.casefold() == "no" else text


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


# --- quantities, ratios, matrices ---------------------------------------------------------------------------------


def _compare_quantities(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Leave a unit aside where one side has none; two that differ make another answer."""
    (value, unit, letters), (their_value, their_unit, their_letters) = _quantity(gold), _quantity(prediction)
    degrees, radians = (("degree", 1),), ((), (("rad", 1),))
    for angle, arc in (((gold, unit), (prediction, their_unit)), ((prediction, their_unit), (gold, unit))):
        if angle[1] == degrees and arc[1] in radians and ("v", "pi") in names_in(_quantity(arc[0])[0]):
            return judge(("°", _quantity(angle[0])[0]), _quantity(arc[0])[0])
    if (unit and their_value[0] == "%") or (their_unit and value[0] == "%"):
        return False
    if count_other_things(_nouns(gold), _nouns(prediction), (bool(unit), bool(their_unit))):
        return False
    if differ(unit, their_unit):
        (size, base), (their_size, their_base) = in_base_units(unit), in_base_units(their_unit)
        sizes = ("n", size, None), ("n", their_size, None)
        return compare(("*", value, sizes[0]), ("*", their_value, sizes[1]), judge) if base == their_base else False
    if letters is not None and not their_unit:  # 5m may be five times m
        if not unknowns(prediction):
            return False
        value = letters
    if their_letters is not None and not unit and unknowns(gold):
        their_value = their_letters
    return compare(value, their_value, judge)


def _quantity(tree: Tree) -> tuple[Tree, Unit, Tree | None]:
    if tree[0] == "°":
        return tree[1], (("degree", 1),), None
    if tree[0] != "u":
        return tree, (), None
    value, unit, _ = _quantity(tree[1])
    return value, tree[2] or unit, tree[3] if len(tree) > 3 else None


def _nouns(tree: Tree) -> str:
    return tree[4] if tree[0] == "u" and len(tree) > 4 else ""


def _compare_ratios(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare 3:2 with 6:4, and with 3/2."""
    left, right = (tree[1:] if tree[0] == ":" else (tree, ONE) for tree in (gold, prediction))
    if len(left) != len(right) or any((n := number_of(part)) is not None and n.value == 0 for part in left + right):
        return False
    if all(len(sides) == 2 and _is_time(*map(number_of, sides)) for sides in (left, right)):
        return bool(left == right)
    pairs = ((("*", left[0], right[n]), ("*", left[n], right[0])) for n in range(1, len(left)))
    return _all(compare(one, other, judge) for one, other in pairs)


def _is_time(hours: Number | None, minutes: Number | None) -> bool:
    return hours is not None and minutes is not None and 0 <= hours.value <= 24 and 10 <= minutes.value < 60


def _compare_choices(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare what has a label, (B) 12, with the label, with what it stands before, or with another of both."""
    if gold[0] == prediction[0]:
        return _all((gold[1] == prediction[1], compare(gold[2], prediction[2], judge)))
    labelled, other = (gold, prediction) if gold[0] == "choice" else (prediction, gold)
    if other[0] == "v":
        return bool(labelled[1] == other)
    return compare(
        gold[2] if labelled is gold else gold, prediction[2] if labelled is prediction else prediction, judge
    )


def _compare_cases(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare the pieces of two functions; "otherwise" stands for whatever the other's last piece says."""
    if gold[0] != prediction[0]:  # |x| in pieces
        return judge(gold, prediction)
    if len(gold) != len(prediction):
        return False
    ours, theirs = gold[1:], prediction[1:]
    for rows, others in ((ours, theirs), (theirs, ours)):
        if rows[-1][4][0] == "w" and all(row[4][0] != "w" for row in others):
            for at in range(len(others)):
                pair = (*others[:at], *others[at + 1 :]), rows[:-1]
                verdict = _all((compare(others[at][3], rows[-1][3], judge), _match(*pair, judge)))
                if verdict is not False:
                    return verdict
            return False
    return _match(ours, theirs, judge)


def _compare_matrices(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    if gold[0] != prediction[0]:
        return judge(gold, prediction)
    if list(map(len, gold)) != list(map(len, prediction)):
        return False
    rows = zip(gold[1:], prediction[1:], strict=True)
    return _all(compare(*cells, judge) for one, other in rows for cells in zip(one[3:], other[3:], strict=True))


# --- relations ----------------------------------------------------------------------------------------------------


class Defined(NamedTuple):
    """What a relation gives a name: x = 2 + 3 = 5 gives x the value 5."""

    value: Tree
    name: Tree | None = None
    checks: tuple[Tree, ...] = ()  # sides that must come to the value too


def _compare_relations(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare the values that two relations give to one name; the judge compares equations and inequalities."""
    left, right = _defined(gold), _defined(prediction, lenient=True)
    if left is not None and right is not None and gold[0] == "rel" and gold[1][-1:] == "≈" and number_of(gold[-1]):
        rounded, said = number_of(gold[-1]), number_of(right.value)  # 1/3 ≈ 0.333 allows both
        if said is not None and rounded is not None and rounded.value == said.value and left.name == right.name:
            return True
    if left is None or (right is None and left.name is not None and (unknowns(left.value) or left.value[0] in _SETS)):
        is_set = _is_set(prediction)
        if left is not None and _is_set(left.value) and not _is_equation(prediction):  # D = (0, 1)
            return compare(left.value, prediction, judge)
        return judge(gold, prediction) if prediction[0] == "rel" or (is_set and not _is_equation(gold)) else False
    if right is None and left.name is None and unknowns(left.value) and _is_equation(prediction):
        return _all(compare(left.value, side, judge) for side in prediction[2:])  # an identity
    if right is None:
        return judge(left.value, prediction) if _is_set(left.value) and not _is_equation(prediction) else False
    if left.name is not None and right.name is not None and left.name[:2] == right.name[:2] == ("call", left.name[1]):
        ours, theirs = left.name[2:], right.name[2:]
        if len(ours) == len(theirs) == 1 and ours[0][0] == theirs[0][0] == "v":  # f(x) = x^2 is f(t) = t^2
            right = right._replace(value=replaced(right.value, theirs[0], ours[0]), name=left.name)
    if prediction[0] == gold[0] == "rel" and left.name is not None and right.name is None:
        return False
    if left.name is not None and right.name is not None and not _names_agree(left.name, right.name):
        return judge(gold, prediction) if prediction[0] == "rel" and unknowns(left.value) else False
    return _all(compare(side, right.value, judge) for side in (left.value, *left.checks, *right.checks))


def _is_set(tree: Tree) -> bool:
    return tree[0] in _SETS or tree == ("v", "emptyset") or (tree[0] == "v" and tree[1][:2] == "bb")


def _is_equation(tree: Tree) -> bool:
    return tree[0] == "rel" and set(tree[1]) <= {"=", "≈"}


def _defined(tree: Tree, lenient: bool = False) -> Defined | None:
    """Read x = 5 or 2 + 3 = 5; None of an equation, an inequality or a contradiction."""
    if tree[0] != "rel":
        return Defined(tree) if tree[0] != "&" else None
    operators, sides = tree[1], tree[2:]
    if operators in ("∈", "≡"):
        return Defined(sides[1], sides[0]) if _is_name(sides[0]) else None
    exact = operators.find("≈")
    if exact == 0 and _is_name(sides[0], lenient):
        return Defined(sides[1], sides[0]) if len(sides) == 2 else None
    if exact >= 0:
        if _contradict(sides[exact], sides[exact + 1]):
            return None
        operators, sides = operators[:exact], sides[: exact + 1]
    if set(operators) - {"="}:
        return None
    arithmetic = tuple(side for side in sides[:-1] if not unknowns(side) and side[0] != "w")
    if len(sides) > 1 and _is_name(sides[0], lenient):
        return Defined(sides[-1], sides[0], arithmetic)
    if len(sides) == 2 and _is_name(sides[1]) and not unknowns(sides[0]):
        return Defined(sides[0], sides[1])
    if len(arithmetic) == len(sides) - 1 or (lenient and len(sides) > 2) or sides[0][:2] in BINDING:
        return Defined(sides[-1], None, tuple(side for side in arithmetic if side[:2] not in BINDING))
    return None


def _contradict(exact: Tree, rounded: Tree) -> bool:
    """Say whether two plain numbers are further apart than rounding the second takes them: 3 and 4."""
    one, other = number_of(exact), number_of(rounded)
    return one is not None and other is not None and abs(one.value - other.value) * 10 ** (other.places or 0) >= 1


def _is_name(tree: Tree, lenient: bool = False) -> bool:
    """Say whether a left side only names a value. One of an equation has numbers, powers or a sum of unknowns."""
    head, inside = tree[0], parts(tree)
    if head in ("v", "call", "w"):
        return not _is_set(tree) and tree not in (("v", "infty"), ("v", "pi"))
    if head == "l":
        return tree[1] in ("(", "") and all(map(_is_name, inside))
    if head == "f":
        return tree[:2] not in (*BINDING, ("f", "base")) and all(_is_name(part, True) for part in inside)
    if head == "*" and not lenient:  # AB, m A or Delta p is a name; x y = 6 is an equation
        return all(
            part[0] == "v" and (part[1][0].isupper() or part[1] in ("m", "nabla")) for part in inside[:-1]
        ) and all(map(_is_name, inside))
    return _is_derivative(tree) or (
        head in (("*", "+", "-", "/", ":") if lenient else ("/", ":")) and all(_is_name(part, True) for part in inside)
    )


def _is_derivative(tree: Tree) -> bool:
    """Say whether a tree is dy/dx, or a higher one."""
    sides = tree[1:] if tree[0] == "/" else ()
    first = [side[1] if side[0] == "*" else side for side in sides]
    return bool(first) and all((part[1] if part[0] == "^" else part) in _DIFFERENTIALS for part in first)


def _names_agree(gold: Tree, prediction: Tree) -> bool:
    """Decide about names: x = 5 is not y = 5; y may be called f(x), and words may stand for a letter."""
    if gold == prediction or "w" in (gold[0], prediction[0]):
        return True
    if {gold[0], prediction[0]} == {"v", "call"}:
        return {gold[1], prediction[1]} == {"y", "f"} or gold[1] == prediction[1]
    return gold[0] == prediction[0] == "l" and gold[3:] == prediction[3:]


# --- lists --------------------------------------------------------------------------------------------------------


def _compare_lists(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare lists of one kind. Brackets give order; a bare list is a set unless the gold has names or brackets."""
    if gold[0] != "l" or prediction[0] != "l":
        return _compare_with_one(gold, prediction, judge)
    left, right = _distinct(gold), _distinct(prediction)
    if not _kinds_agree(gold, prediction):
        related = any(all(item[0] in ("rel", "&") for item in items) for items in (left, right))
        return judge(gold, prediction) if related else False
    if len(left) != len(right):
        return False
    names = set(map(_name, left)) - {None}
    if gold[1] not in ("(", "[") and len(names) <= 1:
        return _match(left, right, judge)
    if _repeats_a_name(right) and not _repeats_a_name(left):
        return False
    return _all(compare(one, other, judge) for one, other in zip(*_named_alike(left, right), strict=True))


def _compare_with_one(gold: Tree, prediction: Tree, judge: Judge) -> bool | None:
    """Compare a list with what is none: one item without brackets, or a set in other words."""
    listed, other = (gold, prediction) if gold[0] == "l" else (prediction, gold)
    if listed[3:] == (("v", "emptyset"),):
        return False
    if _is_set(other):
        return judge(gold, prediction)
    items = _distinct(listed)
    if listed is prediction and prediction[1] == "":
        return _all(compare(gold, item, judge) for item in items)  # one value, said again
    if len(items) != 1:
        return False
    return compare(items[0], other, judge) if listed is gold else compare(other, items[0], judge)


def _kinds_agree(gold: Tree, prediction: Tree) -> bool:
    """Accept the same brackets; one bare and the other no interval nor, on the gold side alone, a pair."""
    kinds = (gold[1] + gold[2], prediction[1] + prediction[2])
    if kinds[0] == kinds[1] or kinds in (("{}", ""), ("", "{}"), ("()", ""), ("", "[]")):
        return True
    if kinds == ("", "()"):
        return None not in map(_name, gold[3:]) and not _repeats_a_name(gold[3:])  # x = 1, y = 2 is (1, 2)
    return len(gold) > 5 and set(kinds) <= {"()", "[]", ""}  # three items and more are no interval


def _distinct(tree: Tree) -> list[Tree]:
    """List the items; of a set, and of a list of pairs, each once."""
    once = tree[1] == "{" or (tree[1] == "" and all(item[0] == "l" for item in tree[3:]))
    return list(dict.fromkeys(tree[3:])) if once else list(tree[3:])


def _name(item: Tree) -> Tree | None:
    found = _defined(item) if item[0] == "rel" else None
    return found.name if found is not None else None


def _repeats_a_name(items: Sequence[Tree]) -> bool:
    """Say whether it is two values of one unknown, x = 1, x = 2, and so no pair."""
    names = [name for item in items if (name := _name(item)) is not None]
    return len(set(names)) < len(names)


def _named_alike(gold: list[Tree], prediction: list[Tree]) -> tuple[list[Tree], list[Tree]]:
    """Put the items of both in the order of their names; y = 4, x = 3 is (3, 4)."""
    if any(_name(item) is None for item in prediction):
        return gold, prediction
    left, right = (sorted(items, key=lambda item: str(_name(item)).casefold()) for items in (gold, prediction))
    return (left if all(map(_name, gold)) else gold), right


def _match(gold: Sequence[Tree], prediction: Sequence[Tree], judge: Judge) -> bool | None:
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


_BY_HEAD = (
    ({"choice"}, _compare_choices),
    ({"rel", "&"}, _compare_relations),
    ({"l"}, _compare_lists),
    ({":"}, _compare_ratios),
    ({"u", "°"}, _compare_quantities),
    ({"m"}, _compare_matrices),
    ({"cases"}, _compare_cases),
)
