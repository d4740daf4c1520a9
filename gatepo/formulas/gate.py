"""A user writes one side of a gate as a formula; its other side and its half-width are derived.

    custom_gate(slope="1/(1+tau**2*(x-1)**2)")     is the arctan gate
    custom_gate(value="1 + tanh(tau*(x-1))/tau")

A value that has no closed form is integrated numerically to 1e-8. The gradient is the slope in every case: autograd
never goes through the value. sympy is imported when such a gate is made, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from gatepo.errors import UserError
from gatepo.formulas.integral import IntegratedValue, NoIntegral
from gatepo.objective.gates import Formula
from gatepo.settings import option, setting

if TYPE_CHECKING:
    from torch import Tensor

    from gatepo.formulas.lower import Program

TAUS = (1.0, 5.0, 10.0, 15.0)  # at which forms are compared; a test holds formulas/exact.py to them
FAR_TAUS = (1e-3, 1.0, 10.0, 1e4)  # at which a formula must stay finite in fp32
LARGEST_SLOPE = 1e6  # on [0, 20]; beyond it is a pole
SLOPE_ERROR = 1e-4  # of f' in fp32, absolute
COEFFICIENT_ERROR = 1e-3  # of x f' in fp32, absolute up to 1 and relative beyond
VALUE_ERROR = 1e-8  # of a closed form against the integral, absolute up to 1 and relative beyond


@option("gate", "custom")
class FormulaGate:
    """A gate as text in x (the ratio) and tau; its other side and its half-width are derived.

    >>> gate = FormulaGate(slope_text="1/(1 + tau**2*(x-1)**2)")
    >>> gate.slope(torch.tensor([1.0, 1.1]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.0000, 0.5000])
    """

    slope_text: str | None = setting("f'(x) as a formula in x and tau, 1 at x = 1.", default=None, key="slope")
    value_text: str | None = setting("f(x) as such a formula; any constant may be added.", default=None, key="value")

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        if (self.slope_text is None) == (self.value_text is None):
            given = "neither" if self.slope_text is None else f"both, {self.slope_text} and {self.value_text}"
            raise UserError(
                f"gate=custom must have exactly one of gate.slope and gate.value, got {given}; "
                "e.g. gate.slope='1/(1+tau**2*(x-1)**2)'"
            )

    def require_usable(self, taus: Sequence[float]) -> None:
        """Refuse a formula that is no gate at these temperatures.

        Raises:
          UserError: what is wrong with it.
        """
        from gatepo.formulas.expression import ExpressionError  # and with it sympy

        try:
            _check(self, taus)
        except ExpressionError as error:
            raise UserError(f"gate.{self.given} {error}") from error

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        from gatepo.formulas.value import ValueWithSlope

        found: Tensor = ValueWithSlope.apply(ratio, tau, self._derived)
        return found

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self._derived.slope(ratio, tau)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self._derived.half_width(tau)

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return self._derived.formula

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was derived, and what is done numerically; one line each."""
        return self._derived.notes

    @property
    def given(self) -> str:
        """Say which side the text is: ``slope`` or ``value``."""
        return "value" if self.slope_text is None else "slope"

    @property
    def text(self) -> str:
        """Give the formula as it was written."""
        return str(self.value_text if self.slope_text is None else self.slope_text)

    @property
    def _derived(self) -> _Derived:
        return _derived(self.given, self.text)


def custom_gate(*, slope: str | None = None, value: str | None = None, taus: Sequence[float] = TAUS) -> FormulaGate:
    """Make the gate with this slope, or with this value; exactly one of them.

    Args:
      slope: f'(x) as text; 1 at x = 1.
      value: f(x) as text; any constant may be added, it acts on nothing.
      taus: temperatures at which it must be finite on [0, 20].
    Raises:
      ExpressionError: no formula, not finite on [0, 20], its slope at 1 is not 1, or not computable in fp32. The
        message is the rule, what was received and the remedy.
    """
    gate = FormulaGate(slope_text=slope, value_text=value)
    _check(gate, taus)
    return gate


def _check(gate: FormulaGate, taus: Sequence[float]) -> None:
    """Refuse what :func:`custom_gate` lists among its errors."""
    from gatepo.formulas.expression import ExpressionError, parse

    tree = parse(gate.text)
    slope_tree = _slope_tree(gate.given, tree)
    _require_finite(tree, "must be", taus)
    _require_finite(slope_tree, "must have a slope that is", taus)
    _require_one_at_one(slope_tree, gate.given, taus)
    try:
        gate.value(torch.ones(len(taus)), torch.tensor(taus), torch.tensor(True))  # refuses what fp32 cannot hold
        if gate.given == "value":
            _require_no_jump(gate, taus)
    except NoIntegral as error:
        raise ExpressionError(
            f"must have an integral, got a slope that needs {error}; let it stay bounded and stop oscillating"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Derived:
    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    both: Callable[[Tensor, Tensor], Sequence[Tensor]]  # slope and value at once
    half_width: Callable[[float], float]
    formula: Formula
    notes: tuple[str, ...]


@lru_cache(maxsize=64)
def _derived(given: str, text: str) -> _Derived:
    from gatepo.formulas.expression import parse, text_of
    from gatepo.formulas.lower import lower
    from gatepo.formulas.solver import ask

    slope_tree = _slope_tree(given, parse(text))
    slope_text = text if given == "slope" else text_of(slope_tree)
    asked = [("numbers", slope_text), ("half_widths", slope_text)]
    numbers, widths, *found = ask(*asked, *([("values", slope_text)] if given == "slope" else []))
    slope_tree, guarded = _precise(slope_text, _exact(numbers))
    slope = lower(slope_tree, guarded=guarded)
    value_text, value_note = _closed_form(slope, [text] if given == "value" else found[0] or [], given)
    half_width, width_note = _half_width(slope, widths or [])
    slope_note = f"f'(x) = {slope_text}, derived from the value" if given == "value" else ""
    shared: dict[str, Any] = {
        "half_width": half_width,
        "formula": Formula(slope=slope_text, value=value_text),
        "notes": tuple(note for note in (slope_note, value_note, width_note) if note),
    }
    if value_text is not None:
        both = lower(slope_tree, parse(value_text), guarded=guarded)
        return _Derived(slope=both.only(0), value=both.only(1), both=both.all, **shared)
    value = IntegratedValue(slope)
    return _Derived(slope=slope, value=value, both=lambda ratio, tau: (slope(ratio, tau), value(ratio, tau)), **shared)


def _slope_tree(given: str, tree: Any) -> Any:
    from gatepo.formulas import derive

    return tree if given == "slope" else derive.slope(tree)


def _precise(text: str, exact: dict[tuple[float, float], float]) -> tuple[Any, bool]:
    """Find a tree of the slope that keeps its digits in fp32 from ratio 1e-9 to e^20, and whether it needs a guard.

    Raises:
      ExpressionError: neither the formula as it is written nor sympy's simplification of it does.
    """
    from gatepo.formulas.expression import ExpressionError, parse
    from gatepo.formulas.lower import lower
    from gatepo.formulas.solver import ask

    trouble = ""
    for tree in map(parse, _forms(text, lambda: ask(("simpler", text))[0])):
        guarded = not _stays_finite(lower(tree))
        error = _fp32_error(lower(tree, guarded=guarded), exact)  # whether 0 is right for what is not finite, too
        if not error:
            return tree, guarded
        trouble = trouble or error
    raise ExpressionError(
        f"must keep its digits in fp32 up to the ratio e^20, got {trouble}; "
        "write it so that nothing cancels or overflows, e.g. exp(-z) rather than 1 - tanh(z)"
    )


def _forms(text: str, simpler: Callable[[], str | None]) -> Iterable[str]:
    """Yield the formula as it is written, and only if that will not do, another form of it."""
    yield text
    other = simpler()
    if other is not None:
        yield other


def _stays_finite(program: Program) -> bool:
    ratio = torch.linspace(-20, 88, 2161).exp()
    return all(bool(torch.isfinite(program(ratio, torch.tensor(tau))).all()) for tau in FAR_TAUS)


def _points() -> Tensor:
    from gatepo.formulas.exact import POINTS

    return torch.tensor(POINTS)


def _exact(numbers: list[float | None] | None) -> dict[tuple[float, float], float]:
    """Tabulate f' by (ratio, tau), from what the worker computed with 40 digits."""
    from gatepo.formulas.exact import POINTS
    from gatepo.formulas.expression import ExpressionError

    if numbers is None:
        raise ExpressionError("must be computable to 40 digits, got nothing in time; write it with fewer nested powers")
    exact = {}
    for (ratio, tau), number in zip(product(POINTS, TAUS), numbers, strict=True):
        if number is None:
            raise ExpressionError(
                f"must be finite and real up to the ratio e^20, got none at x = {ratio:.6g}, tau = {tau:g}; "
                "write it so that it has no pole there"
            )
        exact[ratio, tau] = number
    return exact


def _fp32_error(program: Program, exact: dict[tuple[float, float], float]) -> str:
    """Say the worst that fp32 makes of the slope; the text is empty where that is within bounds."""
    for tau in TAUS:
        got = program(_points(), torch.tensor(tau)).tolist()
        for ratio, number in zip(_points().tolist(), got, strict=True):
            want = exact[ratio, tau]
            error = abs(number - want)
            bound = min(SLOPE_ERROR, COEFFICIENT_ERROR * max(1.0, abs(ratio * want)) / ratio)
            if not error <= max(bound, 1e-6 * abs(want)):
                return f"{number:.6g} in place of {want:.6g} at x = {ratio:.6g}, tau = {tau:g}"
    return ""


def _closed_form(slope: Program, texts: list[str], given: str) -> tuple[str | None, str]:
    """Return the first of ``texts`` that is the slope's integral in fp32 too, None where there is none; and a note."""
    from gatepo.formulas.expression import parse
    from gatepo.formulas.lower import lower

    difference = ""
    for text in texts:
        error = _difference(lower(parse(text)), IntegratedValue(slope), VALUE_ERROR if given == "slope" else 1e-6)
        if not error:
            return text, f"f(x) = {text}, derived from the slope" if given == "slope" else ""
        difference = difference or error
    if not texts:
        return None, "no closed form of f was found: it is integrated from f' numerically, to 1e-8"
    whose = "sympy's closed form" if given == "slope" else "the value as it is written"
    return None, f"f is integrated from f' numerically, to 1e-8: {whose} gives {difference}"


def _difference(closed: Program, integrated: IntegratedValue, bound: float) -> str:
    """Say where a closed form, less its f(1), is not the integral, in float64 or in fp32; empty where it is."""
    for dtype, error in ((torch.float64, bound), (torch.float32, 1e-4)):
        ratio = torch.cat([_points(), torch.linspace(0.05, 20, 400)]).to(dtype)
        one = torch.ones(1, dtype=dtype)
        for tau in TAUS:
            tau_1 = torch.tensor(tau, dtype=dtype)
            got = closed(ratio, tau_1) - closed(one, tau_1) + 1
            want = integrated(ratio.double(), tau_1.double())
            wrong = ~((got - want).abs() <= error * want.abs().clamp(min=1))
            if wrong.any():
                first = int(wrong.nonzero()[0])
                where = f"x = {ratio[first].item():.6g}, tau = {tau:g}"
                return f"{got[first].item():.9g} in place of {want[first].item():.9g} at {where}, in {dtype}"
    return ""


def _half_width(slope: Program, texts: list[str]) -> tuple[Callable[[float], float], str]:
    """Return the function and a note: the first closed form that is the numerical root, else that root itself."""
    from gatepo.formulas.expression import TAU, parse

    def numerical(tau: float) -> float:
        return first_half(slope, tau)

    for text in texts:
        tree = parse(text)

        def closed(tau: float, tree: Any = tree) -> float:
            number = tree.evalf(20, subs={TAU: tau})
            return float(number) if number.is_real else float("nan")

        if all(abs(closed(tau) / numerical(tau) - 1) < 1e-9 for tau in TAUS):
            return closed, f"half-width = {text}, derived from the slope"
    return numerical, "no closed form of the half-width was found: it is a root found numerically"


def first_half(slope: Callable[[Tensor, Tensor], Tensor], tau: float) -> float:
    """Give the least h > 0 with f'(1 + h) <= 1/2, to 1e-12 (relative); infinite where f' stays above 1/2 up to e^20."""
    tau_1 = torch.tensor(tau, dtype=torch.float64)
    width = torch.cat([torch.zeros(1), torch.logspace(-12, 9, 4001)]).double()
    for _ in range(6):  # each round looks 4,000 times closer
        below = slope(1 + width, tau_1) <= 0.5
        if not below.any():
            return float("inf")
        first = int(below.int().argmax())
        if first == 0:
            break
        width = torch.linspace(float(width[first - 1]), float(width[first]), 4001, dtype=torch.float64)
    return float(width[0] + width[-1]) / 2


def _require_finite(tree: Any, what: str, taus: Sequence[float]) -> None:
    """Require finite reals on [0, 20]: looked at in float64 on 20,001 points, and where that fails, exactly."""
    from gatepo.formulas.exact import exactly, is_finite_real, words_of
    from gatepo.formulas.expression import ExpressionError
    from gatepo.formulas.lower import lower

    ratio = torch.linspace(0, 20, 20_001, dtype=torch.float64)
    program, exact = lower(tree), exactly(tree)
    for tau in taus:
        found = program(ratio, torch.tensor(tau, dtype=torch.float64))
        for suspect in ratio[~(found.abs() <= LARGEST_SLOPE)][:100].tolist():
            number = exact(suspect, tau)
            if not (is_finite_real(number) and abs(number) <= LARGEST_SLOPE):
                raise ExpressionError(
                    f"{what} finite and real on [0, 20], got {words_of(number)} at x = {suspect:g}, tau = {tau:g}; "
                    "write it so that it has no pole there"
                )


def _require_one_at_one(slope: Any, given: str, taus: Sequence[float]) -> None:
    import sympy

    from gatepo.formulas.expression import TAU, ExpressionError, X, words_of

    at_one = sympy.simplify(slope.subs(X, 1))
    if at_one != 1 and not all(abs(at_one.subs(TAU, tau).evalf(30) - 1) < 1e-9 for tau in taus):
        what = "must be 1 at its peak, x = 1" if given == "slope" else "must have the slope 1 at its peak, x = 1"
        raise ExpressionError(f"{what}, got {words_of(at_one)}; divide by it")


def _require_no_jump(gate: FormulaGate, taus: Sequence[float]) -> None:
    """Refuse a jump of f, which has no slope, so that the integral of f' misses it."""
    from gatepo.formulas.expression import ExpressionError, parse
    from gatepo.formulas.lower import lower

    ratio = torch.linspace(0.001, 20, 20_000, dtype=torch.float64)
    closed, integrated = lower(parse(gate.text)), IntegratedValue(_derived(gate.given, gate.text).slope)
    for tau in taus:
        tau_1 = torch.tensor(tau, dtype=torch.float64)
        gap = closed(ratio, tau_1) - integrated(ratio, tau_1)
        step = gap.diff().abs()
        if step.max() > 1e-6:
            where = ratio[1 + int(step.argmax())].item()
            jump = f"a jump of {step.max().item():.3g} at x = {where:.3f}, tau = {tau:g}"
            raise ExpressionError(f"must be continuous on [0, 20], got {jump}; write it so that its pieces meet")
