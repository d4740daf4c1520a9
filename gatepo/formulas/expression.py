"""The language in which a gate is written becomes a sympy tree here, and such a tree becomes text again.

A formula in x (the ratio, > 0) and tau (> 0), in Python's notation:

    1 / (1 + tau**2 * (x-1)**2)
    where(abs(x-1) < 1/tau, 1 - (tau*(x-1))**2, 0)

The text is parsed, never evaluated: every node of its syntax tree is on the lists below or is refused.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from typing import Any

import sympy
from sympy.printing.str import StrPrinter

X = sympy.Symbol("x", positive=True)
TAU = sympy.Symbol("tau", positive=True)
NAMES: dict[str, sympy.Expr] = {"x": X, "tau": TAU, "pi": sympy.pi, "E": sympy.E}
LONGEST_TEXT = 1000  # characters
LARGEST_EXPONENT = 100  # of a number: 9**9**9**9 would fill the memory
LARGEST_NUMBER = 10**30  # of a numerator or a denominator

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: _power(a, b),
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: sympy.StrictLessThan,
    ast.LtE: sympy.LessThan,
    ast.Gt: sympy.StrictGreaterThan,
    ast.GtE: sympy.GreaterThan,
}
# name -> (function, its number of arguments; None: two or more)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int | None]] = {
    **{name: (getattr(sympy, name), 1) for name in ("exp", "log", "sqrt", "erf", "erfc", "atan", "sin", "cos", "sign")},
    **{name: (getattr(sympy, name), 1) for name in ("tanh", "sinh", "cosh", "sech", "asinh", "acosh")},
    "sigmoid": (lambda z: 1 / (1 + sympy.exp(-z)), 1),
    "abs": (sympy.Abs, 1),
    "min": (sympy.Min, None),
    "max": (sympy.Max, None),
    "where": (lambda condition, then, otherwise: sympy.Piecewise((then, condition), (otherwise, True)), 3),
}


_NO_NUMBERS = {
    sympy.zoo: "infinity",
    sympy.oo: "infinity",
    -sympy.oo: "infinity",
    sympy.nan: "an undefined number",
    sympy.I: "an imaginary number",
}


class ExpressionError(ValueError):
    """The formula is no gate; the message is the rule, what was received, and the remedy, without the key."""


def parse(text: str) -> sympy.Expr:
    """Give the formula as a sympy tree in :data:`X` and :data:`TAU`.

    Raises:
      ExpressionError: not an expression, or a name, call or anything else that is not on the lists.
    """
    if len(text) > LONGEST_TEXT:
        raise ExpressionError(f"must have at most {LONGEST_TEXT} characters, got {len(text)}; shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionError(
            f"must be an expression in x and tau, got {text!r} ({reason}); e.g. 1/(1+tau**2*(x-1)**2)"
        ) from None
    try:
        found = _tree(tree.body)
    except TypeError as error:  # sympy, of a comparison with what is no real number
        raise ExpressionError(f"must be finite and real on [0, 20], got {text!r} ({error}); correct it") from None
    if found.has(*_NO_NUMBERS):
        raise ExpressionError(f"must be finite and real on [0, 20], got {words_of(found)} from {text!r}; correct it")
    return found


def words_of(number: sympy.Expr) -> str:
    """Say what a number is to somebody who does not know sympy's names."""
    for symbol, kind in _NO_NUMBERS.items():
        if number.has(symbol):
            return kind
    return f"{float(number):.6g}" if number.is_number else str(number)


def text_of(formula: sympy.Expr) -> str:
    """Give the tree in the language that :func:`parse` reads."""
    return _Printer().doprint(formula)


class _Printer(StrPrinter):
    def _print_Piecewise(self, formula: sympy.Piecewise) -> str:
        *firsts, (last, otherwise) = formula.args
        if otherwise != sympy.true:
            raise ExpressionError(f"must be defined for every x, got {formula}; correct it")
        words = self.doprint(last)
        for then, condition in reversed(firsts):
            words = f"where({self.doprint(condition)}, {self.doprint(then)}, {words})"
        return words

    def _print_Max(self, formula: sympy.Max) -> str:
        return f"max({', '.join(map(self.doprint, formula.args))})"

    def _print_Min(self, formula: sympy.Min) -> str:
        return f"min({', '.join(map(self.doprint, formula.args))})"

    def _print_Abs(self, formula: sympy.Abs) -> str:
        return f"abs({self.doprint(formula.args[0])})"


def _tree(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(number)
        case ast.Name(id=name):
            if name not in NAMES:
                raise ExpressionError(f"may name {', '.join(NAMES)} only, got the name {name}; write it in these")
            return NAMES[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return -_tree(operand) if isinstance(node.op, ast.USub) else _tree(operand)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _bounded(_OPERATORS[type(operator)](_tree(left), _tree(right)), node)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _call(name, arguments)
    raise ExpressionError(_refusal(node))


def _refusal(node: ast.expr) -> str:
    """Say in words why a node is on no list."""
    words = ast.unparse(node)
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return f"may give {name} no keyword, got {words}; leave it out"
        case ast.Call():
            return f"may call {', '.join(FUNCTIONS)} only, got the call {words}; write it in these"
        case ast.Attribute():
            return f"may have no attribute, got {words}; write names and calls without a dot"
        case ast.BinOp(op=ast.BitXor()):
            return f"must write powers with **, got {words}; ^ is not a power"
        case ast.Compare():
            return f"may compare only as where's first argument, got {words}; write where({words}, 1, 0)"
    return f"must be numbers, names, + - * / ** and calls, got {words}; write it in these"


def _number(value: float) -> sympy.Rational:
    words = repr(value)
    if words in ("inf", "nan"):
        raise ExpressionError(f"must have numbers up to {float(LARGEST_NUMBER):g}, got {words}; write a smaller one")
    return _bounded(sympy.Rational(words), ast.Constant(value))  # 0.1 means 1/10, not its neighbour in binary


def _bounded(value: Any, node: ast.expr) -> Any:
    if isinstance(value, sympy.Rational) and max(abs(value.p), value.q) > LARGEST_NUMBER:
        raise ExpressionError(
            f"must have numbers up to {float(LARGEST_NUMBER):g}, got {ast.unparse(node)}; write a smaller one"
        )
    return value


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_number and not bool(abs(exponent) <= LARGEST_EXPONENT):
        raise ExpressionError(
            f"must have exponents up to {LARGEST_EXPONENT}, got ({base})**({exponent}); write a smaller one"
        )
    return base**exponent


def _call(name: str, arguments: list[ast.expr]) -> Any:
    function, count = FUNCTIONS[name]
    if len(arguments) < 2 if count is None else len(arguments) != count:
        takes = "two arguments or more" if count is None else f"{count} argument{'s' if count > 1 else ''}"
        raise ExpressionError(f"must give {name} {takes}, got {len(arguments)}; correct the call")
    if name == "where":
        return function(_condition(arguments[0]), *map(_tree, arguments[1:]))
    parts = [_tree(argument) for argument in arguments]
    if count is None and not all(part.is_extended_real is not False for part in parts):
        raise ExpressionError(f"must give {name} real numbers, got {', '.join(map(str, parts))}; correct the call")
    return function(*parts)


def _condition(node: ast.expr) -> Any:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _COMPARISONS:
            return _COMPARISONS[type(operator)](_tree(left), _tree(right))
    raise ExpressionError(
        f"must give where one comparison (< <= > >=) first, got {ast.unparse(node)}; e.g. where(x < 1, 1, 0)"
    )
