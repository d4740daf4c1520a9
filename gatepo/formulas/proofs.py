"""sympy proves the paper's properties of a slope here, as far as it can, for every tau > 0 at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sympy

from gatepo.formulas.expression import TAU, X, parse

_U = sympy.Symbol("u", positive=True)
_CONTINUOUS = (
    *(sympy.Add, sympy.Mul, sympy.Abs, sympy.Max, sympy.Min, sympy.exp, sympy.erf, sympy.erfc, sympy.atan),
    *(sympy.sin, sympy.cos, sympy.tanh, sympy.sinh, sympy.cosh, sympy.asinh),
)


def properties(slope: str) -> dict[str, Any]:
    """Say what is proven of f', each under its name; None where nothing is.

    ``i`` to ``iii`` are True or None. ``iv`` is True or False, with ``limit``, that of x f'(x) at infinity. ``decay``
    is "compact", "none", or ["polynomial", n], ["exponential", k] for a tail like x^-n, exp(-x^k).
    """
    tree = parse(slope).rewrite(sympy.cosh) if "sech" in slope else parse(slope)
    falls = any(_decreases_away_from_one(form) for form in (tree, sympy.simplify(tree).rewrite(sympy.cosh))) or None
    at_one = sympy.simplify(tree.subs(X, 1)) == 1
    far = _far(tree)
    limit = None if far is None else sympy.limit(X * far, X, sympy.oo)
    return {
        "i": _continuous(tree) or None,
        "ii": (at_one and (falls or _nonnegative(1 - tree))) or None,
        "iii": falls,
        "iv": None if limit is None or limit.has(sympy.Limit) else bool(limit == 0),
        "limit": str(limit),
        "decay": None if far is None else _decay(far),
    }


def _continuous(tree: sympy.Basic) -> bool:
    """Prove it by composition: continuous functions of continuous functions, on domains that assumptions guarantee."""
    if tree.is_number or tree in (X, TAU):
        return True
    if isinstance(tree, sympy.Pow):
        base, exponent = tree.args
        defined = base.is_positive or (base.is_nonnegative and exponent.is_positive)
        return bool(defined or (exponent.is_nonnegative and exponent.is_integer)) and all(map(_continuous, tree.args))
    if isinstance(tree, sympy.log):
        return bool(tree.args[0].is_positive) and _continuous(tree.args[0])
    return isinstance(tree, _CONTINUOUS) and all(map(_continuous, tree.args))


def _decreases_away_from_one(tree: sympy.Expr) -> bool:
    """Prove it by the sign of the derivative: x = 1 + u above, x = 1 - u or x = 1 / (1 + u) below, with u > 0."""
    if not _continuous(tree):
        return False
    above, *below = (sympy.diff(tree.subs(X, x), _U) for x in (1 + _U, 1 - _U, 1 / (1 + _U)))
    return _negative(above) and any(map(_negative, below))


def _negative(tree: sympy.Expr) -> bool:
    return any(form(tree).is_negative for form in _FORMS)


def _nonnegative(tree: sympy.Expr) -> bool:
    return any(form(tree).is_nonnegative for form in _FORMS)


_FORMS: tuple[Callable[[Any], Any], ...] = (lambda tree: tree, sympy.factor, sympy.simplify)


@cache
def _far(tree: sympy.Basic) -> sympy.Basic | None:
    """Take of each case distinction the branch that holds for all large x; None if one is unknown."""
    if not tree.has(sympy.Piecewise, sympy.Max, sympy.Min, sympy.Abs):
        return tree
    if isinstance(tree, sympy.Piecewise):
        for then, condition in tree.args:
            holds = _holds_far(condition)
            if holds is not False:
                return None if holds is None else _far(then)
    if isinstance(tree, sympy.Max | sympy.Min | sympy.Abs):
        return _far(tree.rewrite(sympy.Piecewise))
    parts = [_far(part) for part in tree.args]
    return None if None in parts else tree.func(*parts)


def _holds_far(condition: Any) -> bool | None:
    """Say whether a comparison holds for all large x; None if unknown."""
    if condition in (sympy.true, sympy.false):
        return bool(condition)
    left, right = (_far(side) for side in condition.args)
    if left is None or right is None:
        return None
    gap = sympy.limit(left - right, X, sympy.oo)
    above, below = gap.is_extended_positive, gap.is_extended_negative
    if not above and not below:
        return None
    return bool(above) == isinstance(condition, sympy.StrictGreaterThan | sympy.GreaterThan)


def _decay(far: sympy.Expr) -> Any:
    """Classify the tail by the limits of its logarithmic derivative."""
    if far == 0:
        return "compact"
    falling = sympy.simplify(-sympy.diff(far, X) / far)
    if falling == 0 or sympy.limit(X * falling, X, sympy.oo) == 0:
        return "none"
    for kind, order, rate in (
        ("polynomial", None, X * falling),
        ("exponential", 1, falling),
        ("exponential", 2, falling / X),
    ):
        limit = sympy.limit(rate, X, sympy.oo)
        if limit.is_positive and limit.is_finite:
            return [kind, str(limit) if order is None else str(order)]
    return None
