"""Gates that a user writes: the language, what is derived, and what reaches the tensors."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
import torch
from composed import typed
from conftest import REPO
from test_gates import f64, random_ratios
from torch import Tensor

from gatepo import overrides
from gatepo.errors import UserError
from gatepo.formulas import exact
from gatepo.formulas.expression import FUNCTIONS, TAU, ExpressionError, X, parse, text_of
from gatepo.formulas.gate import TAUS, FormulaGate, custom_gate, first_half
from gatepo.formulas.integral import IntegratedValue
from gatepo.formulas.lower import lower
from gatepo.formulas.solver import ask
from gatepo.objective import gates

POSITIVE = torch.tensor(True)
BUILT_IN = {
    "sigmoid": "4*sigmoid(tau*(x-1))*sigmoid(-tau*(x-1))",
    "erf": "exp(-(tau*(x-1))**2/2)",
    "arctan": "1/(1+tau**2*(x-1)**2)",
    "softsign": "(1+tau**2*(x-1)**2)**(-3/2)",
}
NO_CLOSED_FORM = "exp(-(tau*(x-1))**4)"
OVERFLOWS = "4*exp(tau*(x-1))/(1+exp(tau*(x-1)))**2"  # inf / inf in fp32 from tau (x - 1) = 89 on
LANGUAGE = (  # every function of the language, every operator
    "exp(-x) + log(x)*sqrt(x) - erf(x)/erfc(x/9) + atan(x)**3",
    "sin(x)**4 + cos(tau*x)**-2 + sign(x - 1.5)*sigmoid(x)",
    "tanh(x)*sinh(x/9)/cosh(x/7) + sech(x) + asinh(x) + acosh(1 + x)",
    "max(x, tau, 3/2) - min(1, x, 2*tau) + abs(x - 1)**3",
    "where(x < 1, x, where(tau*x >= 2, E**x, -pi)) + where(x > 1, 1, 0.5) + where(x <= 2, tau, x)",
    "2**x / 3**-tau + x**tau + +1 - x**(1/3) - 2*x*(1 - 3*x) + x**-0.5",
    "(x - 1)*exp(-(x-1)**2)*(1 + exp(-(x-1)**2)) - 2.5*tau - 3*x + 7/(x*tau)",
)


@pytest.mark.parametrize("text", LANGUAGE)
def test_torch_computes_what_sympy_computes(text: str) -> None:
    tree = parse(text)
    for tau in (0.7, 3.0):
        got = lower(tree)(f64(0.3, 0.9, 1.7, 4.0), f64(tau))
        want = [float(tree.subs({X: sympy.Float(x, 40), TAU: sympy.Float(tau, 40)})) for x in (0.3, 0.9, 1.7, 4.0)]
        assert got.tolist() == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("text", [text for text in LANGUAGE if "sigmoid" not in text])
def test_a_tree_is_written_in_the_language_that_is_read(text: str) -> None:
    assert parse(text_of(parse(text))) == parse(text)


def test_the_examples_use_the_whole_language() -> None:
    assert all(f"{name}(" in " ".join(LANGUAGE) for name in FUNCTIONS)


def test_equal_parts_are_computed_once_and_tau_on_its_own_tensor() -> None:
    program = lower(parse("exp(-tau**2*(x-1)**2) / (1 + exp(-tau**2*(x-1)**2))"))
    names = [getattr(function, "__name__", "") for function, _ in program.steps]
    assert names.count("exp") == 1
    assert len(names) <= 8  # tau^2, its sign, x - 1, square, product, exp, sum, quotient
    ratio, tau = torch.rand(3, 4), torch.rand(3, 1)
    assert program(ratio, tau).shape == lower(parse("tau"))(ratio, tau).shape == lower(parse("1"))(ratio, tau).shape
    assert lower(parse("where(x > 1, 1, 0)"))(ratio.double(), tau).dtype == torch.float64


@pytest.mark.parametrize("tau", [1.0, 10.0])
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_formula_is_the_built_in_gate_of_the_same_formula(name: str, tau: float) -> None:
    built_in, custom, ratio = gates.get(name), custom_gate(slope=BUILT_IN[name]), random_ratios()
    offset = built_in.value(f64(1.0), f64(tau), POSITIVE) - 1  # eq. 3 has f(1) = 2 / tau, a derived value 1
    torch.testing.assert_close(
        custom.slope(ratio, f64(tau), POSITIVE), built_in.slope(ratio, f64(tau), POSITIVE), rtol=1e-9, atol=1e-14
    )
    torch.testing.assert_close(
        custom.value(ratio, f64(tau), POSITIVE) + offset, built_in.value(ratio, f64(tau), POSITIVE)
    )
    assert custom.half_width(tau) == pytest.approx(built_in.half_width(tau), rel=1e-12)
    assert any("half-width" in note and "derived" in note for note in custom.notes)


def test_the_slope_is_derived_from_a_value() -> None:
    gate = custom_gate(value="7 + tanh(tau*(x-1))/tau")
    ratio = random_ratios()
    expected = 1 / torch.cosh(5 * (ratio - 1)) ** 2  # (tanh z)' = sech^2 z
    torch.testing.assert_close(gate.slope(ratio, f64(5.0), POSITIVE), expected, rtol=1e-6, atol=1e-14)
    assert gate.value(f64(1.0), f64(5.0), POSITIVE).item() == 7
    assert gate.half_width(5.0) == pytest.approx(math.asinh(1) / 5, rel=1e-12)  # sech^2 z = 1/2, sinh z = 1


@pytest.mark.parametrize("text", [BUILT_IN["arctan"], NO_CLOSED_FORM, OVERFLOWS])
def test_the_training_gradient_is_the_slope_to_the_bit(text: str) -> None:
    gate = custom_gate(slope=text)
    ratio = torch.linspace(0.2, 3, 500, requires_grad=True)
    tau = torch.tensor([10.0, 12.0])[:, None]
    gate.value(ratio.expand(2, -1), tau, POSITIVE)[1].sum().backward()
    assert torch.equal(ratio.grad, gate.slope(ratio.detach(), tau[1], POSITIVE))


def exact_integral(z: Tensor) -> Tensor:
    """int_0^z exp(-t^4) dt = sign(z) Gamma(5/4) P(1/4, z^4), P the regularised lower incomplete gamma function."""
    return z.sign() * math.gamma(1.25) * torch.special.gammainc(f64(0.25), z**4)


def test_a_value_without_closed_form_is_integrated_to_1e_8_and_says_so() -> None:
    gate = custom_gate(slope=NO_CLOSED_FORM)
    assert any("no closed form of f was found" in note and "1e-8" in note for note in gate.notes)
    ratio = torch.cat([random_ratios(), f64(1e-9, 1.0, 20.0, 4.85e8)])
    for tau in (1.0, 10.0, 37.5):
        expected = 1 + exact_integral(tau * (ratio - 1)) / tau
        torch.testing.assert_close(gate.value(ratio, f64(tau), POSITIVE), expected, rtol=1e-8, atol=1e-8)
    pair = gate.value(ratio.expand(2, -1), f64(1.0, 10.0)[:, None], POSITIVE)
    assert torch.equal(pair[1], gate.value(ratio, f64(10.0), POSITIVE))


@pytest.mark.parametrize(
    ("text", "exact"),
    [  # a jump, a kink, and a value that grows without bound
        ("where(x <= 1.2, 1, 0)", lambda r: r.clamp(max=1.2)),
        ("max(0, 1 - abs(x-1))", lambda r: 1 + (r - 1).clamp(-1, 1) * (1 - (r - 1).clamp(-1, 1).abs() / 2)),
        ("min(1, 1.2/x)", lambda r: torch.where(r <= 1.2, r, 1.2 + 1.2 * torch.log(r / 1.2))),
    ],
)
def test_the_integral_is_exact_across_kinks_and_jumps(text: str, exact) -> None:
    ratio = torch.cat([random_ratios(), f64(1e-9, 1.2, 1.2000001, 4.85e8)])
    torch.testing.assert_close(
        IntegratedValue(lower(parse(text)))(ratio, f64(10.0)), exact(ratio), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize(
    "kind", [{"slope": text} for text in (*BUILT_IN.values(), NO_CLOSED_FORM, OVERFLOWS)] + [{"value": "x + 0*tau"}]
)
def test_fp32_stays_finite_and_right_at_extreme_ratios(kind: dict[str, str]) -> None:
    gate = custom_gate(**kind)
    points = torch.tensor([1e-9, 1e-6, 0.5, 0.9, 1, 1.1, 2, 9.9, 20, 1e4, 1e6, 4.85e8])
    for tau in (0.1, 10.0, 1000.0):
        ratio = points.clone().requires_grad_()
        value = gate.value(ratio, torch.tensor(tau), POSITIVE)
        (gradient,) = torch.autograd.grad(value.sum(), ratio)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient * points).all()
        exact = gate.slope(points.double(), f64(tau), POSITIVE)
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-3, atol=1e-6)


def test_an_overflow_far_from_1_becomes_the_limit_0() -> None:
    ratio, tau = torch.tensor([0.5, 1.1, 20.0]), torch.tensor(10.0)
    bare, guarded = (lower(parse(OVERFLOWS), guarded=guard)(ratio, tau) for guard in (False, True))
    assert bare.isnan().tolist() == [False, False, True]  # exp(190) / exp(190)^2
    assert torch.equal(guarded, torch.cat([bare[:2], torch.zeros(1)]))


def test_a_root_is_found_where_no_closed_form_is() -> None:
    # exp(-z^2) (1 + z^2) / 1 = 1/2 has no elementary root; z = 1.2956...: e^-1.678347 (2.678347) = 0.5
    gate = custom_gate(slope="exp(-(tau*(x-1))**2)*(1 + (tau*(x-1))**2)*where(x > 0, 1, 1)")
    z = gate.half_width(10.0) * 10
    assert math.exp(-(z**2)) * (1 + z**2) == pytest.approx(0.5, abs=1e-12)
    assert first_half(lower(parse("1")), 10.0) == math.inf
    assert first_half(lower(parse("where(x <= 1.25, 1, 0)")), 10.0) == pytest.approx(0.25, rel=1e-12)


def test_numbers_of_a_formula_are_folded_into_torchs_calls() -> None:
    tree = parse("sqrt(10)*atan(sqrt(10)*x) + atan(7*sqrt(10))")  # sqrt(10) occurs more than once, and is no tensor
    want = [float(tree.subs(X, sympy.Float(x, 40))) for x in (0.3, 2.0)]
    assert lower(tree)(f64(0.3, 2.0), f64(1.0)).tolist() == pytest.approx(want, rel=1e-13)


def test_nested_exponentials_end() -> None:
    """exp(exp(4.85e8)) has more digits than a memory holds; where it cannot matter it is its limit."""
    assert exact.TAUS == TAUS
    gate = custom_gate(slope="exp(1 - cosh(tau*(x-1)))")
    got = gate.slope(torch.tensor([0.9, 1.0, 1.1, 4.85e8]), torch.tensor(10.0), POSITIVE)
    assert got.tolist() == pytest.approx([math.exp(1 - math.cosh(1)), 1, math.exp(1 - math.cosh(1)), 0], rel=1e-5)


def test_a_custom_gate_is_its_text() -> None:
    gate = custom_gate(slope=BUILT_IN["erf"])
    again = pickle.loads(pickle.dumps(gate))
    assert again == gate == FormulaGate(slope_text=BUILT_IN["erf"])
    assert hash(again) == hash(gate)
    assert gate != custom_gate(slope=BUILT_IN["arctan"])
    assert torch.equal(again.slope(f64(1.1), f64(10.0), POSITIVE), gate.slope(f64(1.1), f64(10.0), POSITIVE))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("slope=1/(1+y**2)", "gate.slope may name x, tau, pi, E only, got the name y; write it in these"),
        ("slope=open(x)", "gate.slope may call exp, log, sqrt, erf,"),
        ("slope=open(x)", "only, got the call open(x)"),
        ("slope=x.real", "gate.slope may have no attribute, got x.real"),
        ("slope=x.__class__.__base__", "gate.slope may have no attribute, got x.__class__.__base__"),
        ("slope=x.exp(2)", "only, got the call x.exp(2)"),
        ("slope=exp(z=x)", "gate.slope may give exp no keyword, got exp(z=x)"),
        ("slope=exp(x,2)", "gate.slope must give exp 1 argument, got 2"),
        ("slope=max(x)", "gate.slope must give max two arguments or more, got 1"),
        ("slope=where(x,1,0)", "gate.slope must give where one comparison (< <= > >=) first, got x"),
        ("slope=x<1", "gate.slope may compare only as where's first argument, got x < 1"),
        ("slope=x^2", "gate.slope must write powers with **, got x ^ 2"),
        ("slope=[x for x in (1,)]", "gate.slope must be numbers, names, + - * / ** and calls, got [x for x in (1,)]"),
        ("slope=1j*x", "gate.slope must be numbers, names,"),
        ("slope=True", "gate.slope must be numbers, names,"),
        ("slope=1/(1+", "gate.slope must be an expression in x and tau, got '1/(1+' ("),
        ("slope=9**9**9**9", "gate.slope must have exponents up to 100, got (9)**(387420489)"),
        ("slope=(9**99)**99", "gate.slope must have numbers up to 1e+30, got 9 ** 99"),
        ("slope=1e999*x", "gate.slope must have numbers up to 1e+30, got inf"),
        ("slope=x/0", "gate.slope must be finite and real on [0, 20], got infinity from 'x/0'; correct it"),
        ("slope=sqrt(-1)*x", "gate.slope must be finite and real on [0, 20], got an imaginary number from"),
        ("slope=" + "+".join(["x"] * 600), "gate.slope must have at most 1000 characters, got 1199"),
        ("slope=tau*exp(-(x-1)**2)", "gate.slope must be 1 at its peak, x = 1, got tau; divide by it"),
        ("slope=2*x-0.5", "gate.slope must be 1 at its peak, x = 1, got 1.5;"),
        ("value=x**2", "gate.value must have the slope 1 at its peak, x = 1, got 2;"),
        ("slope=1/x", "gate.slope must be finite and real on [0, 20], got infinity at x = 0, tau = 10"),
        ("slope=2/(3-x)", "gate.slope must be finite and real on [0, 20], got"),
        ("slope=sqrt(2-x)", "gate.slope must be finite and real on [0, 20], got an imaginary number at x = 2.001"),
        ("slope=x**(0/0)", "gate.slope must be finite and real on [0, 20], got 'x**(0/0)' (Invalid NaN comparison)"),
        ("slope=where(sqrt(-1)*x < 1, 1, 1)", "gate.slope must be finite and real on [0, 20], got 'where(sqrt(-1)*x"),
        ("slope=max(x, sqrt(-1))", "gate.slope must give max real numbers, got x, I; correct the call"),
        (
            "slope=1+(x-1)/(tau-5)",
            "gate.slope must be finite and real up to the ratio e^20, got none at x = 2.1e-09, tau",
        ),
        ("slope=sin(x)/sin(1)", "gate.slope must have an integral, got a slope that needs more than 100000 cells"),
        ("slope=x**x**x**x", "gate.slope must be finite and real on [0, 20], got 1.02066e+6 at x = 2.029"),
        ("value=log(x)", "gate.value must be finite and real on [0, 20], got infinity at x = 0"),
        ("value=2*sqrt(x)", "gate.value must have a slope that is finite and real on [0, 20], got infinity at x = 0"),
        ("value=where(x<=1.2,x,0)", "gate.value must be continuous on [0, 20], got a jump of 1.2 at x = 1.20"),
        (
            "slope=sqrt(1+tau**2*(x-1)**2)-tau*abs(x-1)",
            "gate.slope must keep its digits in fp32 up to the ratio e^20, got",
        ),
    ],
)
def test_bad_formulas_are_refused_in_one_line_that_says_why(setting: str, message: str) -> None:
    key, _, formula = setting.partition("=")
    with pytest.raises(UserError) as caught:
        FormulaGate(**{f"{key.removeprefix('gate.')}_text": formula}).require_usable((10.0, 12.0))
    assert message in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_temperatures_in_one_call_are_read_as_each_alone() -> None:
    integrated = IntegratedValue(lower(parse("where(x <= 1.2, 1, 0)")))
    around_the_jump = 1.2 + 2.2e-16 * torch.arange(-300, 301, dtype=torch.float64)
    ratio = torch.cat([f64(0.0, 1e-9, 1.0, 20.0, 4.85e8, 1e38, math.inf), around_the_jump])
    taus = f64(10.0, 1e-3, 1e6, 12.0, 1.0, 10.0)
    together = integrated(ratio.expand(6, -1), taus[:, None])
    for tau, found in zip(taus, together, strict=True):
        torch.testing.assert_close(found, integrated(ratio, tau), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found, ratio.clamp(max=1.2), rtol=1e-8, atol=1e-8)
    assert integrated(f64(math.nan), f64(10.0)).isnan().all()


def test_sympy_is_given_up_on_after_its_deadline() -> None:
    assert ask(("values", NO_CLOSED_FORM), ("half_widths", "1"), deadline=1e-4) == (None, None)
    assert ask(("values", BUILT_IN["arctan"])) == (["1 + atan(tau*(x - 1))/tau"],)


def test_the_log_says_that_sympy_is_asked_before_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gatepo.formulas.solver"):
        ask(("numbers", "x + 0*tau"), ("half_widths", "x + 0*tau"), deadline=1e-4)
        ask(("numbers", "x + 0*tau"), ("half_widths", "x**2"), deadline=1e-4)
    assert caplog.messages == [
        "sympy looks at x + 0*tau: 2 questions of at most 0.0001 s each",
        "sympy looks at 2 formulas: 2 questions of at most 0.0001 s each",
    ]


def test_sympy_is_imported_only_for_formulas() -> None:
    code = (
        "import sys, gatepo.formulas.gate, gatepo.formulas.properties, gatepo.objective.gates as g\n"
        "gatepo.formulas.properties.broken_properties(g.get('erf'), 10, 12)\n"
        "before = 'sympy' in sys.modules\n"
        "gatepo.formulas.gate.custom_gate(slope='1')\n"
        "print(before, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr
    importers = {
        str(file.relative_to(REPO / "gatepo"))
        for file in (REPO / "gatepo").rglob("*.py")
        if any(line.startswith(("import sympy", "from sympy")) for line in file.read_text().splitlines())
    }
    # rewards/judge.py and building.py are what the processes that check answers import
    assert {Path(name).parent.as_posix() for name in importers} == {"formulas", "rewards"}
    assert {name for name in importers if name.startswith("rewards")} <= {"rewards/judge.py", "rewards/building.py"}


def test_hydra_gets_the_quotes_that_the_shell_took() -> None:
    settings = typed("gate=custom", overrides.quoted("gate.slope=where(x<1, x, 1/x**2)"))
    assert settings.gate.slope_text == "where(x<1, x, 1/x**2)"
    assert overrides.quoted("gate.slope='1/x'") == "gate.slope='1/x'"
    assert overrides.quoted("gate.slope=it's") == r"gate.slope='it\'s'"
    assert overrides.quoted("tau.pos=10") == "tau.pos=10"
    assert overrides.quoted("gate.slope=null") == "gate.slope=null"


def test_expression_errors_are_value_errors_for_callers_without_gatepos_config() -> None:
    with pytest.raises(ExpressionError, match="may name x, tau, pi, E only"):
        custom_gate(slope="1/(1+r**2)")
