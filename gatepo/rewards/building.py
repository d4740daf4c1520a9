"""Trees become sympy's expressions, relations, sets and matrices. Imported in worker processes only.

A tree that stands for nothing, or for more than an answer is worth, raises Senseless before sympy works on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

import sympy
from sympy import Basic, Expr, FiniteSet, Float, Interval, MatrixBase, Pow, Rational, Set, Symbol, Union
from sympy.core.relational import Relational

from gatepo.rewards.tokens import ANGLES
from gatepo.rewards.trees import BINDING, Tree, parts

MOST_NODES = 400  # of an expression
MOST_BITS = 100_000  # of a number in it
_RELATIONS = {"=": sympy.Eq, "<": sympy.Lt, ">": sympy.Gt, "≤": sympy.Le, "≥": sympy.Ge, "≠": sympy.Ne}
_CONSTANTS = {
    **{"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "imath": sympy.I, "infty": sympy.oo, "bbC": sympy.S.Complexes},
    **{"bbR": sympy.S.Reals, "bbZ": sympy.S.Integers, "bbN": sympy.S.Naturals, "bbQ": sympy.S.Rationals},
    **{"emptyset": sympy.S.EmptySet, "bbR+": Interval.open(0, sympy.oo), "bbR-": Interval.open(-sympy.oo, 0)},
    **{"bbR*": sympy.S.Reals - FiniteSet(0), "bbR0": Interval(0, sympy.oo), "bbZ+": sympy.S.Naturals},
    **{"bbN*": sympy.S.Naturals, "bbN+": sympy.S.Naturals},
}
_SAME_NAME = {
    **{name: name for name in ("log", "exp", "gcd", "lcm", "arg", "floor", "factorial", "factorial2", "gamma")},
    **{name: name.replace("arc", "a") for name in ANGLES.values()},
    **{"ln": "log", "ceil": "ceiling", "abs": "Abs", "max": "Max", "min": "Min", "binom": "binomial", "mod": "Mod"},
    **{"bar": "conjugate", "Re": "re", "Im": "im", "sgn": "sign"},
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(sympy, ours) for name, ours in _SAME_NAME.items()}
_FUNCTIONS |= {"root": lambda inside, degree: _root(inside, degree), "det": lambda matrix: matrix.det()}
_ARITHMETIC = (Rational, sympy.Add, sympy.Mul, Pow)
_BINDERS = {"sum": sympy.Sum, "prod": sympy.Product, "int": sympy.Integral}


class Senseless(Exception):
    """A tree that stands for nothing, or for something too large to work with."""


@lru_cache(maxsize=256)
def build(tree: Tree) -> Any:
    """Make sympy's expression, relation, set or matrix of a tree; unknowns are real where no i says otherwise.

    Raises:
      Senseless: it is undefined, or too large to be worked out. And whatever sympy raises.
    """
    built = _Builder({} if has_name(tree, "i") else {"real": True}).build(tree)
    if not isinstance(built, Basic | MatrixBase) or built.has(sympy.nan, sympy.zoo) or _is_too_large(built):
        raise Senseless
    return built


def has_name(tree: Tree, name: str) -> bool:
    """Say whether a name stands in a tree, but for what a sum or an integral binds."""
    return tree == ("v", name) or (tree[:2] not in BINDING and any(has_name(part, name) for part in parts(tree)))


def as_set(built: Any) -> Set:
    """Give the set that a relation in one unknown describes; a set is itself."""
    if isinstance(built, Set):
        return built
    if not isinstance(built, Relational) or len(built.free_symbols) != 1:
        raise Senseless
    return sympy.solveset(built, next(iter(built.free_symbols)), sympy.S.Reals)


class _Builder:
    def __init__(self, assumptions: dict[str, bool]) -> None:
        self.assumptions, self.bound = assumptions, set[str]()

    def build(self, tree: Tree) -> Any:
        head, inside = tree[0], tree[1:]
        if head == "n":
            return Rational(inside[0].numerator, inside[0].denominator)
        if head == "v":
            constant = None if inside[0] in self.bound else _CONSTANTS.get(inside[0])
            return Symbol(inside[0], **self.assumptions) if constant is None else constant
        if head == "f" and tree[:2] in BINDING:
            return self.binding(*inside)
        if head in ("f", "rel"):
            return (_function if head == "f" else _relation)(inside[0], [self.build(part) for part in inside[1:]])
        if head == "l":
            return _listed(inside[0], inside[1], [self.build(part) for part in inside[2:]])
        if head == "m":
            return sympy.Matrix([[self.build(cell) for cell in row[3:]] for row in inside])
        if head == "call":
            return sympy.Function(inside[0])(*map(self.build, inside[1:]))
        if head in ("u", "w"):
            raise Senseless
        return _operation(head, [self.build(part) for part in inside])

    def binding(self, name: str, body: Tree, variable: Tree, *bounds: Tree) -> Any:
        """Make a sum, a product, an integral, a limit or a derivative."""
        self.bound.add(variable[1])
        built, symbol = self.build(body), self.build(variable)
        self.bound.discard(variable[1])
        if name == "diff":
            return sympy.diff(built, symbol)
        if name == "lim":
            point, side = (bounds[0][2], bounds[0][3][1]) if bounds[0][:2] == ("f", "side") else (bounds[0], "+")
            return sympy.Limit(built, symbol, self.build(point), side)
        return _BINDERS[name](built, (symbol, *map(self.build, bounds)))


def _operation(head: str, values: list[Any]) -> Any:
    first, last = values[0], values[-1]
    if head in ("&", "\\cup", "\\cap", "\\setminus"):
        sets = list(map(as_set, values))
        return (
            Union(*sets)
            if head == "\\cup"
            else sets[0] - sets[1]
            if head == "\\setminus"
            else sympy.Intersection(*sets)
        )
    if any(not isinstance(value, Expr | MatrixBase) for value in values) or (head == "/" and last == 0):
        raise Senseless
    if head == "^":
        small = _bits(Pow(first, last, evaluate=False)) <= MOST_BITS if isinstance(first, Expr) else abs(last) <= 20
        if not small:
            raise Senseless
        return first**last
    operations: dict[str, Callable[[], Any]] = {
        "+": lambda: sum(values[1:], first),
        "*": lambda: math.prod(values[1:], start=first),
        "-": lambda: -first,
        "/": lambda: first / last,
        "%": lambda: first / 100,
        "°": lambda: first * sympy.pi / 180,
    }
    return operations[head]()


def _function(name: str, values: list[Any]) -> Any:
    large = name in ("factorial", "factorial2", "gamma", "binom") and any(_bits(value) > 12 for value in values)
    if name not in _FUNCTIONS or large or any(isinstance(value, Set | Relational) for value in values):
        raise Senseless
    return _FUNCTIONS[name](*values)


def _root(inside: Any, degree: Any) -> Any:
    """Take the real root where there is one: the third of -8 is -2."""
    odd = isinstance(degree, sympy.Integer) and degree % 2 == 1
    return -Pow(-inside, 1 / degree) if odd and inside.is_negative else Pow(inside, 1 / degree)


def _relation(operators: str, sides: list[Any]) -> Any:
    if operators in ("∈", "∉") and isinstance(sides[0], Symbol):
        return as_set(sides[1]) if operators == "∈" else sympy.S.Reals - as_set(sides[1])
    if set(operators) - set(_RELATIONS):
        raise Senseless
    made = [_RELATIONS[sign](*pair, evaluate=False) for sign, pair in zip(operators, pairwise(sides), strict=True)]
    return made[0] if len(made) == 1 else sympy.Intersection(*map(as_set, made))


def _listed(opening: str, closing: str, values: list[Any]) -> Any:
    if any(isinstance(value, Relational | Set) for value in values):
        sets = list(map(as_set, values))
        bounds = not any(isinstance(value, Set | sympy.Eq) for value in values)
        both = sympy.Intersection(*sets) if bounds else sympy.S.EmptySet  # x > 1, x < 3
        return Union(*sets) if both is sympy.S.EmptySet else both
    if opening in ("(", "[") and len(values) == 2:
        return Interval(*values, left_open=opening == "(", right_open=closing == ")")
    if opening in ("(", "["):
        raise Senseless
    return FiniteSet(*values)


def _is_too_large(expression: Any) -> bool:
    """Say whether working it out could take more time or memory than an answer is worth."""
    nodes = list(islice(sympy.preorder_traversal(expression), MOST_NODES + 1))
    return len(nodes) > MOST_NODES or any(_bits(node) > MOST_BITS for node in nodes)


def _bits(expression: Any) -> float:
    """Bound the bits of an expression's value: log2 of its size, with every variable as large as 2."""
    if isinstance(expression, Rational | Float):
        return math.log2(abs(expression.p) * expression.q + 1) if isinstance(expression, Rational) else 1.0
    sizes = [_bits(part) for part in getattr(expression, "args", ())] or [1.0]
    if isinstance(expression, Pow):
        plain = all(isinstance(node, _ARITHMETIC) for node in islice(sympy.preorder_traversal(expression.exp), 40))
        power = expression.exp.evalf(4) if plain else None  # \sqrt{13} is 3.6
        return (sizes[0] + 1) * (float(abs(power)) if power is not None else _value(sizes[1]))
    if isinstance(expression, sympy.factorial):
        return _value(sizes[0]) * sizes[0]
    return math.fsum(sizes) + 1 if max(sizes) < math.inf else math.inf


def _value(bits: float) -> float:
    return 2**bits if bits < 64 else math.inf
