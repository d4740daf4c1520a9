"""Trees in the shape of another: rows in brackets as a matrix, 2i - k as (2, 0, -1), an antiderivative as its parts."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gatepo.rewards.trees import ONE, Tree, names_in, unknowns

_ZERO = ("n", Fraction(0), None)


def shaped(tree: Tree, other: Tree) -> Tree:
    """Read rows in brackets as a matrix beside one, and 2i - k as (2, 0, -1) beside such a list."""
    brackets = tree[0] == "l" and tree[1] in ("(", "[")
    if other[0] == "m" and brackets and len({len(row) for row in tree[3:] if row[0] == "l"}) == 1:
        return ("m", *(("l", "", "", *row[3:]) for row in tree[3:])) if all(row[0] == "l" for row in tree[3:]) else tree
    if other[0] == "m" and brackets:
        columns = len(other[1]) - 3
        rows = [(item,) for item in tree[3:]] if columns == 1 else [tree[3:]]
        return ("m", *(("l", "", "", *row) for row in rows))
    size = len(other) - (3 if other[0] == "l" and other[1] in ("(", "[") else 1)
    if other[0] not in ("m", "l") or size not in (2, 3) or tree[0] not in ("+", "-", "*", "/", "v"):
        return tree
    found = _components(tree)
    named = found is not None and set(found) <= set("ijk"[:size]) and set(found) != {"i"}
    if found is None or not named:
        return tree
    return shaped(("l", "(", ")", *(found.get(name, _ZERO) for name in "ijk"[:size])), other)


def _components(tree: Tree) -> dict[str, Tree] | None:
    """Give the factors of i, j and k in a sum; None where a term has none or several."""
    if tree[0] in ("+", "-"):
        terms = [_components(part) for part in tree[1:]]
        merged = {name: part for term in terms if term is not None for name, part in term.items()}
        if None in terms or sum(map(len, filter(None, terms))) != len(merged):
            return None
        return {name: ("-", part) for name, part in merged.items()} if tree[0] == "-" else merged
    factors = [tree] if tree[0] == "v" else list(tree[1:]) if tree[0] == "*" else []
    units = [factor for factor in factors if factor[0] == "v" and factor[1] in ("i", "j", "k")]
    rest = [factor for factor in factors if factor not in units]
    return {units[0][1]: ("*", *rest) if len(rest) > 1 else (rest or [ONE])[0]} if len(units) == 1 else None


def antiderivative(tree: Tree, constants: Sequence[str]) -> Tree | None:
    """Take x^2 + C apart, ("+", x^2, x); None where a sum has not one constant beside one other name."""
    rest = tuple(part for part in tree[1:] if part not in [("v", name) for name in constants]) if tree[0] == "+" else ()
    names = [name for name in names_in(("+", *rest)) if unknowns(name)] if rest else []
    return ("+", ("+", *rest), *names) if len(names) == 1 and len(rest) == len(tree) - 2 else None
