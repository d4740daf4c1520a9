"""A slope is computed here to 40 digits, with which its fp32 program is compared."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import sympy

from gatepo.formulas.expression import TAU, X, parse

DIGITS = 40
# exp(exp(exp(20))) has more digits than a memory: beyond this an exponential is its limit.
LARGEST_ARGUMENT = 10**12
TAUS = (1.0, 5.0, 10.0, 15.0)


def _in_fp32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


_NEAR_ONE = (1 + sign * 10.0**-k for k in range(1, 6) for sign in (-1, 1))
# Ratios as fp32 holds them: near 1, on [0, 20], and out to both ends of what the ratio is clamped to.
POINTS = tuple(
    map(
        _in_fp32,
        (2.1e-9, 1e-6, 0.01, 0.3, 0.6, *_NEAR_ONE, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 100, 1e4, 1e6, 4.85e8),
    )
)


def numbers(slope: str) -> list[float | None]:
    """Compute f' at every (ratio, tau) of :data:`POINTS` x :data:`TAUS`; None where it is no finite real."""
    program = exactly(parse(slope))
    found = (program(ratio, tau) for ratio, tau in product(POINTS, TAUS))
    return [float(number) if is_finite_real(number) else None for number in found]


def exactly(tree: sympy.Expr) -> Callable[[float, float], Any]:
    """Give the formula as a function of (ratio, tau) to mpmath's numbers; infinite at a pole."""
    power = sympy.Function("power")
    tree = tree.replace(lambda t: t.is_Pow and not t.exp.is_number and t.base != sympy.E, lambda t: power(*t.args))
    exponentials = {name: _bounded(getattr(mpmath, name)) for name in ("exp", "sinh", "cosh", "tanh", "sech")}
    program = sympy.lambdify((X, TAU), tree, modules=[exponentials | {"power": _power}, "mpmath"])

    def value(ratio: float, tau: float) -> Any:
        with mpmath.workdps(DIGITS):
            try:
                return mpmath.mpmathify(program(mpmath.mpf(ratio), mpmath.mpf(tau)))
            except ZeroDivisionError:
                return mpmath.inf

    return value


def is_finite_real(number: Any) -> bool:
    """Say whether a number is finite and real, also as Python's float."""
    return isinstance(number, mpmath.mpf) and math.isfinite(number)


def words_of(number: Any) -> str:
    """Say what one of mpmath's numbers is, for a message."""
    if isinstance(number, mpmath.mpc):
        return "an imaginary number"
    if mpmath.isnan(number):
        return "an undefined number"
    return "infinity" if mpmath.isinf(number) else f"{mpmath.nstr(number, 6)}"


def _bounded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def found(z: Any) -> Any:
        if isinstance(z, mpmath.mpf) and abs(z) > LARGEST_ARGUMENT:
            z = mpmath.sign(z) * mpmath.inf
        return function(z)

    return found


def _power(base: Any, exponent: Any) -> Any:
    if not (isinstance(base, mpmath.mpf) and base > 0):
        return base**exponent
    return _bounded(mpmath.exp)(exponent * mpmath.log(base))
