"""A sympy tree becomes plain torch operations.

It becomes a straight line of steps, one torch call each, in which equal subtrees are computed once. What depends
on tau alone is computed on tau's own (small) tensor, numbers are folded beforehand, and squares, roots and quotients
take the call that is made for them, so that a formula costs what the same formula written by hand costs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import sympy
import torch
from torch import Tensor

from gatepo.formulas.expression import TAU, ExpressionError, X

Operand = int | float  # a register's number, or a constant (always float)
Step = tuple[Callable[..., Any], tuple[Operand, ...]]

_UNARY: dict[type, Callable[..., Any]] = {
    sympy.exp: torch.exp,
    sympy.log: torch.log,
    sympy.erf: torch.erf,
    sympy.erfc: torch.erfc,
    sympy.atan: torch.atan,
    sympy.sin: torch.sin,
    sympy.cos: torch.cos,
    sympy.sign: torch.sign,
    sympy.tanh: torch.tanh,
    sympy.sinh: torch.sinh,
    sympy.cosh: torch.cosh,
    sympy.asinh: torch.asinh,
    sympy.acosh: torch.acosh,
    sympy.Abs: torch.abs,
}
_POWERS: dict[float, Callable[..., Any]] = {
    -1.5: lambda base: base.rsqrt().pow_(3),  # several times faster than the general power
    -1.0: torch.reciprocal,
    -0.5: torch.rsqrt,
    0.5: torch.sqrt,
    2.0: torch.square,
    4.0: lambda base: base.square().square(),
}
_RELATIONS: dict[type, Callable[..., Any]] = {
    sympy.StrictLessThan: operator.lt,
    sympy.LessThan: operator.le,
    sympy.StrictGreaterThan: operator.gt,
    sympy.GreaterThan: operator.ge,
}


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A program is steps over registers; register 0 is the ratio, 1 is tau, and each step appends one."""

    steps: tuple[Step, ...]
    results: tuple[Operand, ...]  # one for each formula

    def __call__(self, ratio: Tensor, tau: Tensor) -> Tensor:
        """Compute the only formula on ``ratio``, in its dtype and shape; ``tau`` broadcasts to it."""
        (found,) = self.all(ratio, tau)
        return found

    def all(self, ratio: Tensor, tau: Tensor) -> list[Tensor]:
        """Compute every formula on ``ratio``, in their order; see :meth:`__call__`."""
        registers: list[Any] = [ratio, tau]
        for function, operands in self.steps:
            registers.append(function(*[registers[o] if type(o) is int else o for o in operands]))
        return [_like(registers[o] if type(o) is int else o, ratio) for o in self.results]

    def only(self, number: int) -> Program:
        """Give the program of one of the formulas: the same steps, as far as it needs them, and so the same bits."""
        needed, waiting = {0, 1}, [self.results[number]]
        while waiting:
            operand = waiting.pop()
            if type(operand) is int and operand not in needed:
                needed.add(operand)
                waiting += self.steps[operand - 2][1]
        places = {old: new for new, old in enumerate(sorted(needed))}

        def moved(operand: Operand) -> Operand:
            return places[operand] if type(operand) is int else operand

        steps = [self.steps[old - 2] for old in sorted(needed)[2:]]
        return Program(
            steps=tuple((function, tuple(map(moved, operands))) for function, operands in steps),
            results=(moved(self.results[number]),),
        )


def lower(formula: sympy.Expr, *others: sympy.Expr, guarded: bool = False) -> Program:
    """Give the program of one formula, or of several that share their equal parts.

    Args:
      formula: the tree, or the first of them.
      others: more of them.
      guarded: replace what is not finite in the first by 0.
    Raises:
      ExpressionError: one holds a function that torch has not.
    """
    shared, bodies = sympy.cse([formula, *others])
    line = _Line()
    numbers: dict[sympy.Symbol, sympy.Expr] = {}
    for name, part in shared:
        part = part.xreplace(numbers)
        if part.is_number:  # e.g. sqrt(10): folded where it is used, since torch's calls take no numbers
            numbers[name] = part
        else:
            line.share(name, part)
    first, *rest = (line.place(body.xreplace(numbers)) for body in bodies)
    if guarded and type(first) is int:
        first = line.step(_finite_or_zero, first)
    return Program(steps=line.steps, results=(first, *rest))


def _like(found: Tensor | float, ratio: Tensor) -> Tensor:
    """Bring a result into the ratio's shape and dtype."""
    if isinstance(found, float):
        return torch.full_like(ratio, found)
    return found if found.shape == ratio.shape else found.expand_as(ratio)


def _finite_or_zero(found: Tensor) -> Tensor:
    return torch.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


class _Line:
    """The steps so far, and where each subtree's result lies."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._places: dict[Any, Operand] = {X: 0, TAU: 1}
        self._of_ratio = {X}  # symbols whose values have the ratio's size

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps)

    def share(self, name: sympy.Symbol, part: Any) -> None:
        """Let ``name`` stand for ``part`` in what follows."""
        self._places[name] = self.place(part)
        if part.free_symbols & self._of_ratio:
            self._of_ratio.add(name)

    def place(self, formula: Any) -> Operand:
        """The operand that holds ``formula``; its steps are added if it is new."""
        if formula not in self._places:
            self._places[formula] = float(formula) if formula.is_number else self._lower(formula)
        return self._places[formula]

    def step(self, function: Callable[..., Any], *operands: Operand) -> int:
        self._steps.append((function, operands))
        return len(self._steps) + 1

    def _lower(self, formula: Any) -> Operand:
        kind = type(formula)
        if kind in _UNARY:
            return self.step(_UNARY[kind], self.place(formula.args[0]))
        if kind in _RELATIONS:
            return self.step(_RELATIONS[kind], *map(self.place, formula.args))
        lowering = {
            sympy.Add: self._sum,
            sympy.Mul: self._product,
            sympy.Pow: self._power,
            sympy.Max: self._extreme,
            sympy.Min: self._extreme,
            sympy.Piecewise: self._pieces,
            sympy.sech: lambda f: self.step(_sech, self.place(f.args[0])),
        }.get(kind)
        if lowering is None:
            raise ExpressionError(f"must be made of functions that torch has, got {kind.__name__}; write it otherwise")
        return lowering(formula)

    def _sum(self, formula: sympy.Add) -> Operand:
        constant, rest = formula.as_coeff_Add()
        small, big = self._by_size(sympy.Add.make_args(rest))
        terms = [term.as_coeff_Mul() for term in big]
        start: Operand = float(constant)
        for coefficient, term in (small_term.as_coeff_Mul() for small_term in small):
            start = self._added(start, float(coefficient), self.place(term))
        for coefficient, term in sorted(terms, key=lambda pair: pair[0] != 1):
            start = self._added(start, float(coefficient), self.place(term))
        return start

    def _added(self, start: Operand, coefficient: float, term: Operand) -> Operand:
        """Add coefficient * term to start, in one step where torch has one."""
        if start == 0.0 and type(start) is float:
            return term if coefficient == 1 else self.step(operator.mul, term, coefficient)
        if coefficient == 1:
            return self.step(operator.add, term, start)
        if coefficient == -1:
            return self.step(operator.sub, start, term)
        if type(start) is float:
            return self.step(operator.add, self.step(operator.mul, term, coefficient), start)
        return self.step(lambda a, b, k: torch.add(a, b, alpha=k), start, term, coefficient)

    def _product(self, formula: sympy.Mul) -> Operand:
        coefficient, rest = formula.as_coeff_Mul()
        small, big = self._by_size(sympy.Mul.make_args(rest))
        above = [factor for factor in big if not _is_reciprocal(factor)]
        below = [1 / factor for factor in big if _is_reciprocal(factor)]
        squares = [factor for factor in small if _is_square(factor)]
        of_ratio = next((factor for factor in above if _is_square(factor)), None)
        if squares and of_ratio is not None:  # tau^2 d^2 as (tau d)^2
            small.remove(squares[0])
            above.remove(of_ratio)
        scale: Operand = float(coefficient)
        if small:
            scale = self._multiplied([self.place(factor) for factor in small], float(coefficient))
        factors = [self.place(factor) for factor in above]
        if squares and of_ratio is not None:
            factors.append(self.step(torch.square, self.place(of_ratio.base * squares[0].base)))
        numerator = self._multiplied(factors, scale)
        if not below:
            return numerator
        return self.step(operator.truediv, numerator, self._multiplied([self.place(f) for f in below], 1.0))

    def _multiplied(self, factors: list[Operand], scale: Operand) -> Operand:
        whole = factors if scale == 1.0 and type(scale) is float else [*factors, scale]
        return reduce(lambda a, b: self.step(operator.mul, a, b), whole) if whole else 1.0

    def _power(self, formula: sympy.Pow) -> Operand:
        if (argument := _sigmoid_argument(formula)) is not None:
            return self.step(torch.sigmoid, self.place(argument))
        base, exponent = self.place(formula.base), self.place(formula.exp)
        if type(exponent) is float and exponent in _POWERS:
            return self.step(_POWERS[exponent], base)
        return self.step(torch.pow, base, exponent)

    def _extreme(self, formula: sympy.Max | sympy.Min) -> Operand:
        highest = isinstance(formula, sympy.Max)
        small, big = self._by_size([argument for argument in formula.args if not argument.is_number])
        two = torch.maximum if highest else torch.minimum
        found = reduce(lambda a, b: self.step(two, a, b), [self.place(argument) for argument in (*big, *small)])
        for bound in (float(argument) for argument in formula.args if argument.is_number):
            found = self.step(torch.clamp_min if highest else torch.clamp_max, found, bound)
        return found

    def _pieces(self, formula: sympy.Piecewise) -> Operand:
        *firsts, (last, _) = formula.args
        found = self.place(last)
        for then, condition in reversed(firsts):
            found = self.step(_where, self.place(condition), self.place(then), found, 0)
        return found

    def _by_size(self, parts: Any) -> tuple[list[Any], list[Any]]:
        """Part the subtrees into those of tau alone and those of the ratio."""
        of_ratio = [bool(part.free_symbols & self._of_ratio) for part in parts]
        pairs = list(zip(parts, of_ratio, strict=True))
        return [part for part, big in pairs if not big], [part for part, big in pairs if big]


def _where(condition: Tensor, then: Tensor | float, otherwise: Tensor | float, ratio: Tensor) -> Tensor:
    """Call torch.where with two numbers in the ratio's dtype."""
    if isinstance(then, float) and isinstance(otherwise, float):
        return condition.to(ratio.dtype) * (then - otherwise) + otherwise
    return torch.where(condition, then, otherwise)


def _is_reciprocal(factor: Any) -> bool:
    """Say whether dividing by the inverse takes fewer steps, or no more, than multiplying."""
    return factor.is_Pow and factor.exp in (-1, -2) and _sigmoid_argument(factor) is None


def _is_square(factor: Any) -> bool:
    return factor.is_Pow and factor.exp == 2


def _sigmoid_argument(tree: Any) -> Any:
    """Return z if the tree is 1 / (1 + exp(-z)), which torch computes without overflow; else None."""
    if tree.is_Pow and tree.exp == -1 and tree.base.is_Add and len(tree.base.args) == 2:
        one, power = tree.base.args
        if one == 1 and isinstance(power, sympy.exp):
            return -power.args[0]
    return None


def _sech(z: Tensor) -> Tensor:
    """Compute 1 / cosh z as 2 e / (1 + e^2), e = exp(-abs z): it cannot overflow and is ten times as fast as cosh."""
    e = z.abs().neg_().exp_()
    return 2 * e / e.square().add_(1)
