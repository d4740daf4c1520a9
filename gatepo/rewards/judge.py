"""Expressions that their spelling does not settle, by latex2sympy and math-verify. Imported in worker processes only.

math-verify alone is too generous for a reward: it rounds differences of small numbers to nothing (1/2006! is 1/2004!),
takes a pair for an open interval, and reads what it can of a text that it cannot parse (4 in 4\\sqrt(2)). So the whole
answer is parsed or nothing is, and what math-verify calls equal must also be equal in numbers.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import (
    And,
    Basic,
    Derivative,
    Expr,
    FiniteSet,
    Float,
    I,
    Interval,
    MatrixBase,
    Pow,
    Rational,
    Symbol,
    Union,
    factorial,
    nan,
    oo,
    preorder_traversal,
    zoo,
)
from sympy.core.relational import Relational

from gatepo.rewards.equality import settle
from gatepo.rewards.numbers import LEAST_PLACES, Number, number_of, same

DIGITS = 30  # of a constant that is compared in numbers
MOST_DIGITS = 300  # to which a difference is worked out to find its first ones
SURE_DIGITS = 10  # of a difference, from which on it is not a rounding error
MOST_NODES = 400  # of an expression
MOST_BITS = 100_000  # of a number in it
POINT, STEP = Rational(9, 7), Rational(13, 11)  # where the variables are put to compare in numbers
_CONFIG = ConversionConfig(lowercase_symbols=False)


_PLAIN = re.compile(r"[\d.,]+")


class _Parser(_Latex2Sympy):
    """latex2sympy without its one call of Python's ``eval``.

    ``sympy.Number(text)``, by which it reads every number, hands the text to sympy's parser, which compiles it as
    Python. Here a number is read as what it is, and a decimal exactly: 0.1 + 0.2 is 0.3.
    """

    def parse_number(self, text: str) -> Rational:
        return Rational(text.replace(",", ""))

    def convert_postfix_list(self, arr: Any, i: int = 0) -> Any:
        """The product of what stands side by side; latex2sympy takes 2(3) for a mixed number, which would be 5."""
        first = self.convert_postfix(arr[i])
        if i == len(arr) - 1:
            if isinstance(first, list):
                raise ValueError("a derivative of nothing")
            return first
        rest = self.convert_postfix_list(arr, i + 1)
        if isinstance(first, list):
            return Derivative(rest, first[0])
        if isinstance(first, MatrixBase) or isinstance(rest, MatrixBase):
            return self.mat_mul_flat(first, rest)
        if not (isinstance(first, Expr) and isinstance(rest, Expr)):
            raise ValueError("a product of what cannot be multiplied")
        text, following = arr[i].getText(), arr[i + 1].getText()
        if _PLAIN.fullmatch(text) and i + 2 == len(arr) and following.startswith("\\frac") and _is_proper(rest):
            return first + rest
        if _PLAIN.fullmatch(text.strip("{}")) and _PLAIN.match(following.lstrip("{")):
            raise ValueError("two numbers side by side")
        return self.mul_flat(first, rest)


def _is_proper(fraction: Expr) -> bool:
    return isinstance(fraction, Rational) and 0 < fraction < 1


def equal(gold: str, prediction: str) -> bool:
    """Whether two answers are equal (eq. 11).

    Raises: whatever sympy raises while it works an expression out. One that cannot be parsed is different.
    """
    return bool(settle(gold, prediction, _equal_expressions))


def _equal_expressions(gold: str, prediction: str) -> bool:
    left, right = _parse(gold), _parse(prediction)
    if left is None or right is None:
        return False
    if number_of(gold) is not None:
        return _is_constant(right) and _equal_number(gold, right)
    if number_of(prediction) is not None and _is_constant(left):
        return _equal_number(prediction, left)
    if _differ_in_numbers(left, right):
        return False
    if isinstance(left, Expr) and isinstance(right, Expr) and left.doit() == right.doit():
        return True  # math-verify compares a bare x with what is spelled x, and not with x + 0
    return bool(verify(left, right, allow_set_relation_comp=True, timeout_seconds=None))


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    """Parse the expression that the whole text spells; None where it spells none, or one too large to work with."""
    try:
        expression = _Parser(is_real=not should_treat_as_complex(text), config=_CONFIG).parse(text)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # latex2sympy raises bare Exceptions on what it cannot read
        return None
    if _is_undefined(expression) or _is_too_large(expression):
        return None
    return expression.subs({symbol: I for symbol in expression.free_symbols if symbol.name == "i"})


def _is_undefined(expression: Any) -> bool:
    return not isinstance(expression, Basic | MatrixBase) or expression.has(nan, zoo)


def _is_too_large(expression: Any) -> bool:
    """Say whether working it out could take more time or memory than an answer is worth."""
    nodes = list(islice(preorder_traversal(expression), MOST_NODES + 1))
    return len(nodes) > MOST_NODES or any(_bits(node) > MOST_BITS for node in nodes)


def _bits(expression: Any) -> float:
    """Bound the bits of an expression's value: log2 of its size, with every variable as large as 2."""
    if isinstance(expression, Rational | Float):
        return math.log2(abs(expression.p) * expression.q + 1) if isinstance(expression, Rational) else 1.0
    sizes = [_bits(part) for part in getattr(expression, "args", ())] or [1.0]
    if isinstance(expression, Pow):
        return (sizes[0] + 1) * _value(sizes[1])
    if isinstance(expression, factorial):
        return _value(sizes[0]) * sizes[0]
    return math.fsum(sizes) + 1 if max(sizes) < math.inf else math.inf


def _value(bits: float) -> float:
    return 2**bits if bits < 64 else math.inf


def _is_constant(expression: Any) -> bool:
    return isinstance(expression, Expr) and not expression.free_symbols


def _equal_number(text: str, constant: Basic) -> bool:
    """Say whether a plain number and a constant expression are equal under the rules for plain numbers."""
    number = number_of(text)
    worked_out = constant.doit()
    value = None if constant.has(oo) else _evaluate(worked_out)
    if number is None or value is None or value.as_real_imag()[1] != 0:
        return False
    exact = Number(value=Fraction(str(value.as_real_imag()[0])))
    if isinstance(value, Rational):
        return same(number, exact)
    if number.places is None or number.places < LEAST_PLACES:
        plain = Rational(number.value.numerator, number.value.denominator)
        return not _are_apart(worked_out, plain)
    return same(number, exact)


def _differ_in_numbers(left: Any, right: Any) -> bool:
    """Say whether a number in them shows that they are not equal, whatever is said of them."""
    if isinstance(left, MatrixBase) and isinstance(right, MatrixBase):
        return left.shape == right.shape and any(map(_differ_in_numbers, left.flat(), right.flat()))
    if isinstance(left, Relational) and isinstance(right, Relational):
        return _differ_as_relations(left, right)
    if isinstance(left, Expr) and isinstance(right, Expr):
        return _differ_at_a_point(left, right)
    ours, theirs = _bounds(left), _bounds(right)
    if ours is None or theirs is None:
        return False
    return any(all(_differ_in_numbers(bound, other) for other in theirs) for bound in ours)


def _differ_as_relations(left: Relational, right: Relational) -> bool:
    """Say whether the quotient of their sides' differences is not the same at two points."""
    quotient = (left.lhs - left.rhs) / (right.lhs - right.rhs)
    return _differ_at_a_point(quotient, quotient.subs({symbol: 2 * symbol + 1 for symbol in quotient.free_symbols}))


def _bounds(expression: Any) -> list[Any] | None:
    """List the elements and finite ends of a set, or of what x < 2 says; None where they are not spelled out."""
    if isinstance(expression, Expr):
        return [expression]
    if isinstance(expression, Relational):
        others = [side for side in expression.args if not isinstance(side, Symbol)]
        return others if len(others) == 1 else None
    if isinstance(expression, Interval):
        return [end for end in (expression.start, expression.end) if end.is_finite]
    if isinstance(expression, FiniteSet):
        return list(expression.args)
    if isinstance(expression, And | Union):
        parts = [_bounds(part) for part in expression.args]
        return None if None in parts else [bound for part in parts if part is not None for bound in part]
    return None


def _differ_at_a_point(left: Expr, right: Expr) -> bool:
    """Say whether both have values at the same point, and these differ."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    values = {symbol: POINT + index * STEP for index, symbol in enumerate(symbols)}
    one, other = (side.subs(values).doit() for side in (left, right))
    return _evaluate(one) is not None and _evaluate(other) is not None and _are_apart(one, other)


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


def _evaluate(worked_out: Basic) -> Any:
    """Evaluate a constant, exactly where it is rational, else to DIGITS digits; None where no value is finite."""
    value = worked_out if isinstance(worked_out, Rational) else worked_out.evalf(DIGITS)
    return value if isinstance(value, Expr) and value.is_number and value.is_finite else None
