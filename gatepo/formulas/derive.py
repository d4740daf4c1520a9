"""What sympy derives from a slope: the value, the half-width and a simpler form. Any of it may take forever."""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy.functions.elementary.hyperbolic import HyperbolicFunction

from gatepo.formulas.expression import TAU, ExpressionError, X, parse, text_of

_Z = sympy.Symbol("z", real=True)
_H = sympy.Symbol("h", positive=True)


def values(slope: str) -> list[str]:
    """Give f(x) = 1 + int_1^x f'(u) du in closed forms, as far as sympy finds any; not all of them suit fp32."""
    tree = parse(slope)
    of_z = sympy.simplify(tree.subs(X, 1 + _Z / TAU))
    if TAU in of_z.free_symbols:
        candidates = (found - found.subs(X, 1) for found in _antiderivatives(tree, X))
    else:  # the slope is one of z = tau (x - 1) alone, and tau need not trouble the integral
        candidates = ((f - f.subs(_Z, 0)).subs(_Z, TAU * (X - 1)) / TAU for f in _antiderivatives(of_z, _Z))
    return list(_readable(1 + found for found in candidates))


def slope(value: sympy.Expr) -> sympy.Expr:
    """Give f'(x) by sympy's rules; at a kink of f it is the slope above, and a jump of f leaves no trace in it."""
    return sympy.diff(value, X).replace(sympy.Heaviside, lambda step, *_: sympy.Piecewise((1, step >= 0), (0, True)))


def half_widths(slope: str) -> list[str]:
    """Give solutions h of f'(1 + h) = 1/2 in closed form, as far as sympy finds any; the caller picks the right one."""
    tree = parse(slope)
    of_z = sympy.simplify(tree.subs(X, 1 + _Z / TAU))
    if TAU in of_z.free_symbols:
        return list(_readable(sympy.solve(tree.subs(X, 1 + _H) - sympy.Rational(1, 2), _H)))
    return list(_readable(h / TAU for h in sympy.solve(of_z.subs(_Z, _H) - sympy.Rational(1, 2), _H)))


def simpler(formula: str) -> str | None:
    """Give the same function in another form, which may keep its digits where the first does not."""
    return next(_readable([sympy.simplify(parse(formula))]), None)


def _antiderivatives(tree: sympy.Expr, variable: sympy.Symbol) -> Iterator[sympy.Expr]:
    """Yield forms of one antiderivative."""
    for form in dict.fromkeys((tree, tree.rewrite(sympy.exp)) if tree.has(HyperbolicFunction) else (tree,)):
        found = sympy.integrate(form, variable)
        if not found.has(sympy.Integral):
            # As tanh, exp(z) / (1 + exp(z)) does not overflow.
            shapes = (found, found.rewrite(sympy.tanh)) if found.has(sympy.exp) else (found,)
            yield from map(_with_sigmoid, map(sympy.simplify, shapes))
            return


def _with_sigmoid(tree: sympy.Expr) -> sympy.Expr:
    """Write tanh as a sigmoid: torch's is six times as fast as its tanh, and a value needs no digits near 0."""
    return tree.replace(sympy.tanh, lambda z: 2 / (1 + sympy.exp(-2 * z)) - 1)


def _readable(trees: object) -> Iterator[str]:
    """Keep those that the language of gates can say, as text."""
    for tree in trees:  # type: ignore[attr-defined]
        try:
            text = text_of(tree)
            parse(text)
        except ExpressionError:
            continue
        yield text
