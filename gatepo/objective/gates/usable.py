"""What a gate must keep to be trained with, looked at on the gate itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gatepo.errors import UserError
from gatepo.objective.gates.base import Gate
from gatepo.settings import name_of, options


def require_usable(gate: Gate, taus: Sequence[float]) -> None:
    """Look at a gate that no test here knows: a formula looks at itself, a class from outside is looked at.

    Raises:
      UserError: what is wrong with it.
    """
    look = getattr(gate, "require_usable", None)
    if look is not None:
        look(taus)
    elif type(gate) not in options("gate").values():
        require_derivative(gate, taus)


def require_derivative(gate: Gate, taus: Sequence[float]) -> None:
    """Hold autograd of the value, which trains, to the slope, which is logged, at r = 1 and 1,999 ratios up to 20.

    Args:
      gate: one that nobody has tested.
      taus: temperatures at which it must be usable.
    Raises:
      UserError: value or slope have another shape than the ratio, or the slope is not the derivative.
    """
    for tau in taus:
        for positive in (True, False):
            _require_derivative(gate, tau, positive)


def require_positive(gate: Gate, pos: float, neg: float, clamp: float, aggregation: object) -> None:
    """Refuse a gate with values that have no logarithm: f(r) - f(1) + 1 must be > 0 in fp32 at every ratio.

    Args:
      gate: f.
      pos: tau where A > 0.
      neg: tau where A <= 0.
      clamp: the bound of the log-ratio, nats.
      aggregation: the one that asks for it, to be named.
    Raises:
      UserError: a value is not above 0.
    """
    ratio = torch.linspace(-clamp, clamp, 2001).exp()
    for sign, tau, positive in (("A > 0", pos, True), ("A <= 0", neg, False)):
        tau_1, positive_1 = torch.tensor([tau]), torch.tensor([positive])
        value = gate.value(ratio, tau_1, positive_1) - (gate.value(torch.ones(1), tau_1, positive_1) - 1)
        wrong = ~(value > 0)
        if wrong.any():
            at = int(wrong.nonzero()[-1])
            raise UserError(
                f"gate must have f(r) - f(1) + 1 > 0 with aggregation={name_of(aggregation)}, got "
                f"gate={name_of(gate)} with {value[at].item():.4g} at r = {ratio[at].item():.4g} where {sign}; "
                "type aggregation=sequence_mean"
            )


def _require_derivative(gate: Gate, tau: float, positive: bool) -> None:
    tau_1, sign = torch.tensor([tau], dtype=torch.float64), torch.tensor([positive])
    off_kinks = torch.arange(1, 2000, dtype=torch.float64) / 100.03  # which are at round numbers
    ratio = torch.cat([torch.ones(1, dtype=torch.float64), off_kinks]).requires_grad_()  # every run begins at 1
    value = gate.value(ratio, tau_1, sign)
    slope = gate.slope(ratio.detach(), tau_1, sign)
    if value.shape != ratio.shape or slope.shape != ratio.shape:
        raise UserError(
            f"gate must give value and slope in the ratio's shape {tuple(ratio.shape)}, got "
            f"{tuple(value.shape)} and {tuple(slope.shape)} from {name_of(gate)}; tau and positive broadcast to it"
        )
    (gradient,) = torch.autograd.grad(value.sum(), ratio)
    wrong = ~((gradient - slope).abs() <= 1e-6 * slope.abs().clamp(min=1))
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise UserError(
            f"gate must have a slope that is the derivative of its value, got {slope[at].item():.6g} and "
            f"{gradient[at].item():.6g} at r = {ratio[at].item():.6g}, tau = {tau:g} from {name_of(gate)}; correct one "
            "of them"
        )
