"""Gates: values, slopes, widths, and the paper's properties (i) to (iv)."""

import math

import pytest
import torch
from torch import Tensor

from gatepo.objective import gates

SMOOTH = ("sigmoid", "erf", "arctan", "softsign")
TAUS = (1.0, 5.0, 10.0, 15.0)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_ratios(n: int = 2000) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.exp(2 * torch.randn(n, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", gates.names())
@pytest.mark.parametrize("positive", [True, False])
def test_slope_is_the_derivative_of_the_value(name: str, tau: float, positive: bool) -> None:
    gate, sign = gates.get(name), torch.tensor(positive)
    ratio = random_ratios().requires_grad_()
    gate.value(ratio, f64(tau), sign).sum().backward()
    torch.testing.assert_close(gate.slope(ratio.detach(), f64(tau), sign), ratio.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", SMOOTH)
def test_slope_peaks_at_one_falls_on_both_sides_and_outruns_r(name: str, tau: float) -> None:
    """Properties (ii), (iii) and (iv)."""
    gate, sign = gates.get(name), torch.tensor(True)
    below = gate.slope(torch.linspace(0, 1, 1001, dtype=torch.float64), f64(tau), sign)
    above = gate.slope(torch.linspace(1, 3, 1001, dtype=torch.float64), f64(tau), sign)
    assert below[-1] == above[0] == 1
    assert (below.diff() > 0).all()
    assert (above.diff() < 0).all()
    far = f64(1e3, 1e4, 1e5, 1e6)
    assert ((gate.slope(far, f64(tau), sign) * far).diff() <= 0).all()
    assert gate.slope(far, f64(tau), sign)[-1] * far[-1] < 2e-6 / tau**2 + 1e-300 + 1e-5


@pytest.mark.parametrize("name", SMOOTH)
def test_half_width_is_where_the_slope_is_one_half(name: str) -> None:
    gate = gates.get(name)
    for tau in TAUS:
        at_half = gate.slope(f64(1 + gate.half_width(tau)), f64(tau), torch.tensor(True))
        assert at_half.item() == pytest.approx(0.5, abs=1e-12)


def test_half_widths_are_those_of_the_closed_forms() -> None:
    # sech^2(z/2) = 1/2 at z = 2 arcosh(sqrt 2) = 1.7627; sqrt(2 ln 2) = 1.1774; 1; sqrt(2^(2/3) - 1) = 0.7664
    expected = {"sigmoid": 1.7627, "erf": 1.1774, "arctan": 1.0, "softsign": 0.7664}
    for name, width in expected.items():
        assert gates.get(name).half_width(10.0) == pytest.approx(width / 10, abs=1e-5)
    assert gates.get("clip", eps_low=0.1, eps_high=0.3).half_width(10.0) == 0.3
    assert gates.get("none").half_width(10.0) == math.inf


def test_values_worked_by_hand_at_tau_2_and_r_1_5() -> None:
    # z = tau (r - 1) = 1. sigmoid: s(1) 4 / 2 = 0.7310586 * 2; erf: 1 + sqrt(pi/2)/2 erf(1/sqrt 2) with
    # sqrt(pi/2) = 1.2533141, erf(0.7071068) = 0.6826895; arctan: 1 + (pi/4)/2; softsign: 1 + 0.5 / sqrt 2
    expected = {"sigmoid": 1.4621172, "erf": 1.4278122, "arctan": 1.3926991, "softsign": 1.3535534}
    for name, value in expected.items():
        got = gates.get(name).value(f64(1.5), f64(2.0), torch.tensor(True)).item()
        assert got == pytest.approx(value, abs=1e-6), name


def test_slopes_worked_by_hand_at_tau_2_and_r_1_5() -> None:
    # z = 1. sigmoid: 4 * 0.7310586 * 0.2689414; erf: e^-0.5; arctan: 1/2; softsign: 2^-1.5
    expected = {"sigmoid": 0.7864477, "erf": 0.6065307, "arctan": 0.5, "softsign": 0.3535534}
    for name, slope in expected.items():
        got = gates.get(name).slope(f64(1.5), f64(2.0), torch.tensor(True)).item()
        assert got == pytest.approx(slope, abs=1e-6), name


def test_sigmoid_is_equation_3_and_its_slope_equation_5() -> None:
    ratio, tau, sign = random_ratios(), f64(10.0), torch.tensor(True)
    value = 1 / (1 + torch.exp(-tau * (ratio - 1))) * 4 / tau
    gate = gates.get("sigmoid")
    torch.testing.assert_close(gate.value(ratio, tau, sign), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(gate.slope(ratio, tau, sign), tau * value * (1 - tau / 4 * value), rtol=1e-9, atol=1e-12)
    assert gate.value(f64(1.0), tau, sign).item() == 2 / 10  # f(1) = 2 / tau, not 1


def test_erf_is_equation_6_before_simplification() -> None:
    ratio, tau = random_ratios(), 7.0
    c = math.sqrt(math.pi / (2 * tau**2))
    expected = c * (1 + torch.erf(tau * (ratio - 1) / math.sqrt(2))) + 1 - c
    torch.testing.assert_close(gates.get("erf").value(ratio, f64(tau), torch.tensor(True)), expected)


def test_clip_is_the_minimum_of_equation_1() -> None:
    eps_low, eps_high = 0.2, 0.28
    gate = gates.get("clip", eps_low=eps_low, eps_high=eps_high)
    ratio = random_ratios()
    for advantage in (-1.7, 0.0, 2.3):
        got = advantage * gate.value(ratio, f64(10.0), torch.tensor(advantage > 0))
        expected = torch.minimum(ratio * advantage, ratio.clamp(1 - eps_low, 1 + eps_high) * advantage)
        torch.testing.assert_close(got, expected)


def test_clip_passes_exactly_the_bounds_of_the_sign_rule_below_equation_12() -> None:
    gate = gates.get("clip", eps_low=0.25, eps_high=0.25)  # exact in binary, so that the bounds can be hit
    ratio = f64(0.7, 0.75, 1.25, 1.3)
    assert gate.slope(ratio, f64(1.0), torch.tensor(True)).tolist() == [1, 1, 1, 0]
    assert gate.slope(ratio, f64(1.0), torch.tensor(False)).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("name", gates.names())
def test_fp32_stays_finite_over_the_whole_clamped_range(name: str) -> None:
    ratio = torch.linspace(-20, 20, 4001).exp().requires_grad_()
    for tau in (0.1, 10.0, 1000.0):
        value = gates.get(name).value(ratio, torch.tensor(tau), torch.tensor(True))
        (gradient,) = torch.autograd.grad(value.sum(), ratio)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient * ratio.detach()).all()


def test_unknown_gate_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"sigmoid, erf, arctan, softsign, clip, none, .*, gamma, got 'tanh'"):
        gates.get("tanh")
