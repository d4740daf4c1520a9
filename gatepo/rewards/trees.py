"""What an answer says, as a tree of tuples, ``(head, *parts)``.

Heads: ``n`` number (value, decimals), ``v`` name, ``w`` words, ``+ * / ^ -`` (one part: the opposite), ``%``, ``°``,
``± ∓``, ``f`` function (its name, arguments), ``call`` of a name (arguments), ``m`` matrix (rows), ``:`` ratio, the set
operations by their LaTeX names, ``rel`` (operators, sides), ``l`` list (opening bracket, closing bracket, items), ``&``
conditions that all hold, ``u`` quantity (value, unit, and what it is if the unit's letters are names), ``cases``
(pairs of a value and its condition), ``choice`` (a letter, and what it is the label of).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Tree = tuple[Any, ...]
BINDING = (("f", "sum"), ("f", "prod"), ("f", "int"), ("f", "lim"), ("f", "diff"))
LEAST_PLACES = 6  # decimals from which on a rounded number stands for the exact one
ONE = ("n", Fraction(1), None)


def unknowns(tree: Tree) -> bool:
    """Say whether a tree has names of unknowns; those that a sum or an integral binds are none."""
    if tree[0] == "v":
        return tree[1] not in ("pi", "infty", "e", "i", "emptyset") and tree[1][:2] != "bb"
    return tree[:2] not in BINDING and (tree[0] == "call" or any(map(unknowns, parts(tree))))


def parts(tree: Tree) -> list[Tree]:
    """List the trees within a tree."""
    return [part for part in tree[1:] if isinstance(part, tuple) and part]


def depth(tree: Tree) -> int:
    """Count how many trees stand within each other; without recursion, for it may be many."""
    found, level = 0, [tree]
    while level:
        found, level = found + 1, [part for one in level for part in parts(one)]
    return found


def number(text: str) -> Tree:
    """Give the tree of a number's digits."""
    mantissa, _, exponent = text.lower().partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0) if "." in mantissa or exponent else None
    return ("n", Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0), places)


def replaced(tree: Tree, old: Tree, new: Tree) -> Tree:
    """Put one tree in the place of another wherever it stands."""
    if tree == old:
        return new
    return tuple(replaced(part, old, new) if isinstance(part, tuple) else part for part in tree)


def names_in(tree: Tree) -> set[Tree]:
    """Give the names in a tree."""
    return {tree} if tree[0] == "v" else set().union(*map(names_in, parts(tree)))
