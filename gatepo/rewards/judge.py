"""Trees that do not show whether they are equal, by sympy. Imported in worker processes only.

Two expressions are equal if they have the same values: at points on both sides of zero, in 30 digits, and where they
are constants to as many as show a difference. Whatever cannot be evaluated must be equal as sympy simplifies it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, FiniteSet, Float, Interval, MatrixBase, Rational, Set, Union
from sympy.core.relational import Relational

import gatepo.rewards.equality as equality
from gatepo.rewards.building import Senseless, as_set, build, has_name
from gatepo.rewards.numbers import Number, number_of, same
from gatepo.rewards.trees import LEAST_PLACES, Tree, parts, unknowns

DIGITS = 30  # of a value that is compared
MOST_DIGITS = 300  # to which a difference is worked out to find its first ones
SURE_DIGITS = 10  # of a difference, from which on it is not a rounding error
STARTS = (
    Rational(9, 7),
    Rational(17, 5),
    Rational(-5, 3),
    Rational(2, 9),
    Rational(-3, 10),
    Rational(71, 6),
    Rational(4),
)
_MOST_ITEMS = 64  # of a range of whole numbers
STEP = Rational(13, 11)  # from one variable's value to the next one's


def equal(gold: str, prediction: str) -> bool:
    """Whether two answers are equal (eq. 11).

    Raises: whatever sympy raises while it works an expression out.
    """
    return bool(equality.settle(gold, prediction, _same))


def _same(gold: Tree, prediction: Tree) -> bool:
    """Judge two trees: sets, relations in the same unknowns, expressions. A number is no expression with infinity."""
    pairs = (gold, prediction), (prediction, gold)
    common = _common_logarithms(gold), _common_logarithms(prediction)
    if common != pairs[0] and _same(*common):
        return True
    if any(number_of(tree) is not None and has_name(other, "infty") for tree, other in pairs):
        return False
    if gold[0] in ("rel", "&") and prediction[0] in ("rel", "&") and _names(gold) != _names(prediction):
        return False
    try:
        real = not (has_name(gold, "i") or has_name(prediction, "i"))
        left, right = build(gold, real), build(prediction, real)
        if isinstance(left, Set) or isinstance(right, Set):
            return _same_sets(as_set(left), as_set(right))
    except (Senseless, TypeError, ValueError, AttributeError, NotImplementedError):
        return False
    left, right = (
        side[0, 0] if isinstance(side, MatrixBase) and side.shape == (1, 1) else side for side in (left, right)
    )
    if isinstance(left, Relational) and isinstance(right, Relational):
        return _same_relations(left, right)
    if isinstance(left, MatrixBase) and isinstance(right, MatrixBase):
        return left.shape == right.shape and all(map(_same_values, left.flat(), right.flat()))
    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        return False
    for number, other in ((number_of(gold), right), (number_of(prediction), left)):
        if number is not None and not other.free_symbols:
            return _equal_number(number, other)
    return _same_values(left, right)


def _common_logarithms(tree: Tree) -> Tree:
    """Read log without a base as that to the base of ten."""
    inside = (_common_logarithms(part) if isinstance(part, tuple) and part else part for part in tree[1:])
    base = (("n", Fraction(10), None),) if tree[:2] == ("f", "log") and len(tree) == 3 else ()
    return (tree[0], *inside, *base)


def _names(tree: Tree) -> set[str]:
    """Name the unknowns of a tree."""
    return set().union(*map(_names, parts(tree))) if tree[0] != "v" else {tree[1]} if unknowns(tree) else set()


# --- values -------------------------------------------------------------------------------------------------------


def _same_values(left: Expr, right: Expr) -> bool:
    """Say whether two expressions have the same value wherever both have one."""
    if left == right:
        return True
    if left.has(sympy.Piecewise) or right.has(sympy.Piecewise):
        return _same_pieces(left, right)
    left, right = left.doit(), right.doit()
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    compared, real = 0, bool(symbols) and all(symbol.is_real for symbol in symbols)
    for start in STARTS if symbols else STARTS[:1]:
        values = {symbol: start + index * STEP for index, symbol in enumerate(symbols)}
        one, other = left.subs(values).doit(), right.subs(values).doit()
        if not (_is_finite(one, real) and _is_finite(other, real)):
            continue
        if _are_apart(one, other):
            return False
        compared += 1
    return compared > min(1, len(symbols)) or bool(sympy.simplify(left - right) == 0)


def _same_pieces(left: Expr, right: Expr) -> bool:
    """Say whether two functions of one variable agree at and beside the bounds of their pieces, and far from them."""
    symbols = left.free_symbols | right.free_symbols
    bounds = {side for part in (left, right) for relation in part.atoms(Relational) for side in relation.args}
    points = {side + step for side in bounds if side.is_Rational for step in (0, Rational(-1, 7), Rational(1, 7))}
    if len(symbols) != 1 or any(not side.is_Rational and side not in symbols for side in bounds):
        raise Senseless
    for point in (*points, *STARTS, Rational(-101, 3), Rational(101, 3)):
        one, other = (side.subs(next(iter(symbols)), point) for side in (left, right))
        if _is_finite(one) != _is_finite(other) or (_is_finite(one) and _are_apart(one, other)):
            return False
    return True


def _is_finite(value: Any, real: bool = False) -> bool:
    found = value.evalf(DIGITS) if isinstance(value, Expr) else None
    if not isinstance(found, Expr) or not found.is_number or found.is_finite is not True:
        return False
    return not real or found.as_real_imag()[1] == 0


def _are_apart(one: Expr, other: Expr) -> bool:
    """Say whether two constants differ in DIGITS - 8 digits, or by less but surely: 1 + e^{-100} is not 1."""
    if isinstance(one, Rational) and isinstance(other, Rational):
        return bool(one != other)
    difference, size = (one - other).evalf(DIGITS, maxn=MOST_DIGITS), max(abs(one.evalf()), abs(other.evalf()))
    if abs(difference) > Float(10) ** (8 - DIGITS) * size:
        return True
    return any(part != 0 and _digits(part) >= SURE_DIGITS for part in difference.as_real_imag())


def _digits(number: Expr) -> float:
    """Count the digits of a number that are known: hardly one where cancelling left only rounding errors."""
    return number._prec * math.log10(2) if isinstance(number, Float) else 0.0


def _equal_number(number: Number, expression: Expr) -> bool:
    """Say whether a plain number and a constant expression are equal under the rules for plain numbers."""
    worked_out = expression.doit()
    if worked_out.free_symbols or not _is_finite(worked_out):
        return False
    value = worked_out if isinstance(worked_out, Rational) else worked_out.evalf(DIGITS)
    real, imaginary = value.as_real_imag()
    if imaginary != 0:
        return False
    if isinstance(value, Rational) or (number.places or 0) >= LEAST_PLACES:
        return same(number, Number(value=Fraction(str(real))))
    return not _are_apart(worked_out, Rational(number.value.numerator, number.value.denominator))


# --- relations and sets -------------------------------------------------------------------------------------------


def _same_relations(left: Relational, right: Relational) -> bool:
    """Say whether one relation is the other times a constant, or an inequality with the same solutions."""
    if len(left.free_symbols) == 1 and not isinstance(left, sympy.Eq):
        if isinstance(right, sympy.Eq):
            return False
        solutions = as_set(left)
        if solutions not in (sympy.S.Reals, sympy.S.EmptySet):  # which any other inequality may have too
            return _same_sets(solutions, as_set(right))
    flipped = {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}
    kinds = [flipped.get(relation.func, relation.func) for relation in (left, right)]
    one, other = _difference(left), _difference(right)
    if kinds[0] != kinds[1] or one == 0 or other == 0:
        return False
    quotient = sympy.simplify(sympy.cancel(one / other))
    known = not quotient.free_symbols and quotient.is_finite is True
    return known and (kinds[0] in (sympy.Eq, sympy.Ne) or quotient.is_positive is True)


def _difference(relation: Relational) -> Expr:
    """Give what is 0, or below it, where the relation holds; of an equation without its denominator."""
    if isinstance(relation, sympy.Eq):
        return sympy.numer(sympy.together(relation.lhs - relation.rhs)).expand()
    difference = relation.lhs - relation.rhs
    return -difference if isinstance(relation, sympy.Gt | sympy.Ge) else difference


def _same_sets(left: Set, right: Set) -> bool:
    if left == right:
        return True
    ours, theirs = _pieces(left), _pieces(right)
    return len(ours) == len(theirs) and all(
        one[2:] == other[2:] and all(map(_same_ends, one[:2], other[:2]))
        for one, other in zip(ours, theirs, strict=True)
    )


def _same_ends(one: Expr, other: Expr) -> bool:
    return bool(one == other) if one.is_infinite or other.is_infinite else _same_values(one, other)


def _pieces(found: Set) -> list[tuple[Expr, Expr, bool, bool]]:
    """List the intervals and points of a set from left to right: their ends, and which are left out."""
    pieces: list[tuple[Expr, Expr, bool, bool]] = []
    for part in found.args if isinstance(found, Union) else (found,):
        if isinstance(part, Interval):
            pieces.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, FiniteSet) or (isinstance(part, sympy.Range) and part.size <= _MOST_ITEMS):
            pieces += [(item, item, False, False) for item in part]
        else:
            raise Senseless
    return sorted(pieces, key=lambda piece: sympy.default_sort_key(piece[0].evalf()))
