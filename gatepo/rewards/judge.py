"""Expressions that their spelling does not settle, by latex2sympy and math-verify. Imported in worker processes only.

math-verify alone is too generous for a reward: it rounds differences of small numbers to nothing (1/2006! is 1/2004!),
takes a pair for an open interval, and reads what it can of a text that it cannot parse (4 in 4\\sqrt(2)). So the whole
answer is parsed or nothing is, and what math-verify calls equal must also be equal in numbers.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import (
    Basic,
    Eq,
    Expr,
    Float,
    I,
    MatrixBase,
    Pow,
    Rational,
    factorial,
    nan,
    oo,
    preorder_traversal,
    zoo,
)

from gatepo.rewards.notation import settle
from gatepo.rewards.numbers import LEAST_PLACES, Number, read, same

DIGITS = 30  # of a constant that is compared in numbers
MOST_NODES = 400  # of an expression
MOST_BITS = 100_000  # of a number in it
POINT, STEP = Rational(9, 7), Rational(13, 11)  # where the variables are put to compare in numbers
_CONFIG = ConversionConfig(lowercase_symbols=False)


class _Parser(_Latex2Sympy):
    """latex2sympy without its one call of Python's ``eval``.

    ``sympy.Number(text)``, by which it reads every number, hands the text to sympy's parser, which compiles it as
    Python. Here a number is read as what it is, and a decimal exactly: 0.1 + 0.2 is 0.3.
    """

    def parse_number(self, text: str) -> Rational:
        return Rational(text.replace(",", ""))


def equal(gold: str, prediction: str) -> bool:
    """Whether two answers are equal (eq. 11).

    Raises: whatever sympy raises while it works an expression out. One that cannot be parsed is different.
    """
    return bool(settle(gold, prediction, _equal_expressions))


def _equal_expressions(gold: str, prediction: str) -> bool:
    left, right = _parse(gold), _parse(prediction)
    if left is None or right is None:
        return False
    if read(gold) is not None:
        return _is_constant(right) and _equal_number(gold, right)
    if read(prediction) is not None and _is_constant(left):
        return _equal_number(prediction, left)
    if _differ_in_numbers(left, right):
        return False
    return bool(verify(left, right, allow_set_relation_comp=True, timeout_seconds=None))


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    """The expression that the whole text spells, or None where it spells none, or one too large to work with."""
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
    """Whether working it out could take more time or memory than an answer is worth."""
    nodes = list(islice(preorder_traversal(expression), MOST_NODES + 1))
    return len(nodes) > MOST_NODES or any(_bits(node) > MOST_BITS for node in nodes)


def _bits(expression: Any) -> float:
    """A bound on the bits of an expression's value: log2 of its size, with every variable as large as 2."""
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
    """Whether a plain number and a constant expression are equal under the rules for plain numbers."""
    number = read(text)
    value = None if constant.has(oo) else _evaluate(constant)
    if number is None or value is None or value.as_real_imag()[1] != 0:
        return False
    exact = Number(value=Fraction(str(value.as_real_imag()[0])))
    if isinstance(value, Rational):
        return same(number, exact)
    if number.places is None or number.places < LEAST_PLACES:
        error = Fraction(1, 10 ** (DIGITS - 8))
        return abs(exact.value - number.value) <= error * max(Fraction(1), abs(number.value))
    return same(number, exact)


def _differ_in_numbers(left: Any, right: Any) -> bool:
    """Whether both have values at the same point, and these differ: then they are not equal, whatever was said.

    Two equations differ where the quotient of their sides' differences is not the same at two points.
    """
    if isinstance(left, Eq) and isinstance(right, Eq):
        quotient = (left.lhs - left.rhs) / (right.lhs - right.rhs)
        left, right = quotient, quotient.subs({symbol: 2 * symbol + 1 for symbol in quotient.free_symbols})
    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        return False
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    values = {symbol: POINT + index * STEP for index, symbol in enumerate(symbols)}
    one, other = (_evaluate(side.subs(values)) for side in (left, right))
    return one is not None and other is not None and _are_apart(one, other)


def _are_apart(one: Expr, other: Expr) -> bool:
    if isinstance(one, Rational) and isinstance(other, Rational):
        return one != other
    return bool(abs(one - other) > Float(10) ** (8 - DIGITS) * max(abs(one), abs(other)))


def _evaluate(expression: Basic) -> Any:
    """A constant, exactly where it is rational, else to DIGITS digits; None where it has no finite value."""
    value = expression.doit()
    value = value if isinstance(value, Rational) else value.evalf(DIGITS)
    return value if isinstance(value, Expr) and value.is_number and value.is_finite else None
