"""Gates: what replaces the hard clip of the importance ratio.

A gate is a function f of the ratio r. Token t of completion i gets the gradient

    A_i r f'(r) grad log pi(o_it)          (eq. 4)

so only the slope f' acts in training; the value f is what the logged loss is made of. Every family here gives
both in closed form, with d = r - 1:

    family     value f(r)                              slope f'(r)                 source
    sigmoid    s(tau d) 4 / tau                        4 s(tau d) s(-tau d)        eq. 3, 5
    erf        1 + sqrt(pi/2)/tau erf(tau d/sqrt 2)    exp(-tau^2 d^2 / 2)         eq. 6
    arctan     1 + arctan(tau d) / tau                 1 / (1 + tau^2 d^2)         eq. 7
    softsign   1 + d / sqrt(1 + tau^2 d^2)             (1 + tau^2 d^2)^(-3/2)      eq. 8
    clip       min(r, 1+eps_high), max(r, 1-eps_low)   1 inside, 0 outside         eq. 1
    none       r                                       1                           importance sampling

Shapes: ``ratio`` is any tensor; ``tau`` and ``positive`` (True where A > 0) broadcast to it. Results have the
shape of ``ratio``. All quantities are dimensionless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Gate(Protocol):
    """A value, its slope, and the slope's width."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """f(r), differentiable in ``ratio``; autograd of it is :meth:`slope`."""
        ...

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """f'(r) in closed form; 1 at r = 1."""
        ...

    def half_width(self, tau: float) -> float:
        """Distance above r = 1 at which the slope has fallen to 1/2 (for ``clip``, at which it ends)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A gate as text in x (the ratio) and tau, in the language of :mod:`gatepo.objective.symbolic.expression`."""

    slope: str
    value: str | None  # None: no closed form


@runtime_checkable
class Formulated(Protocol):
    """A gate that states its formula, from which ``python -m gatepo.gates`` proves what it can."""

    def formula(self, positive: bool) -> Formula:
        """As it is where A > 0, or where A <= 0."""
        ...


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """SAPO's gate (eq. 3, 5). f(1) = 2 / tau, as the equation has it; slope decays exponentially."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.sigmoid(tau * (ratio - 1)) * 4 / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        z = tau * (ratio - 1)
        return 4 * torch.sigmoid(z) * torch.sigmoid(-z)  # eq. 5 without its cancellation at large z

    def half_width(self, tau: float) -> float:
        return 2 * math.acosh(math.sqrt(2)) / tau  # 4 s(z) s(-z) = sech^2(z/2)

    def formula(self, positive: bool) -> Formula:
        return Formula(value="4/tau * sigmoid(tau*(x-1))", slope="sech(tau*(x-1)/2)**2")


@dataclass(frozen=True, slots=True)
class Erf:
    """The normal distribution's gate (eq. 6); slope decays like a Gaussian, closest to hard clipping."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        # eq. 6 simplifies: its constants sqrt(pi / 2 tau^2) cancel.
        return 1 + math.sqrt(math.pi / 2) / tau * torch.erf(tau * (ratio - 1) / math.sqrt(2))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.exp(-((tau * (ratio - 1)) ** 2) / 2)

    def half_width(self, tau: float) -> float:
        return math.sqrt(2 * math.log(2)) / tau

    def formula(self, positive: bool) -> Formula:
        return Formula(value="1 + sqrt(pi/2)/tau * erf(tau*(x-1)/sqrt(2))", slope="exp(-tau**2*(x-1)**2/2)")


@dataclass(frozen=True, slots=True)
class Arctan:
    """The arctangent gate (eq. 7); slope decays like 1/r^2, the heaviest tail of the paper's gates."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return 1 + torch.atan(tau * (ratio - 1)) / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return 1 / (1 + (tau * (ratio - 1)) ** 2)

    def half_width(self, tau: float) -> float:
        return 1 / tau

    def formula(self, positive: bool) -> Formula:
        return Formula(value="1 + atan(tau*(x-1))/tau", slope="1/(1 + tau**2*(x-1)**2)")


@dataclass(frozen=True, slots=True)
class Softsign:
    """The softsign gate (eq. 8); slope decays like 1/r^3."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return 1 + (ratio - 1) * torch.rsqrt(1 + (tau * (ratio - 1)) ** 2)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return (1 + (tau * (ratio - 1)) ** 2) ** -1.5

    def half_width(self, tau: float) -> float:
        return math.sqrt(2 ** (2 / 3) - 1) / tau

    def formula(self, positive: bool) -> Formula:
        return Formula(value="1 + (x-1)/sqrt(1 + tau**2*(x-1)**2)", slope="(1 + tau**2*(x-1)**2)**(-3/2)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """PPO's and GRPO's hard clip (eq. 1) as a gate: A f(r) = min(r A, clip(r, 1 - eps_low, 1 + eps_high) A).

    The sign rule is the paper's (below eq. 12): A > 0 clips above, A <= 0 clips below. ``tau`` is not used.
    """

    eps_low: float = 0.2
    eps_high: float = 0.2

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.where(positive, ratio.clamp(max=1 + self.eps_high), ratio.clamp(min=1 - self.eps_low))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.where(positive, ratio <= 1 + self.eps_high, ratio >= 1 - self.eps_low).to(ratio.dtype)

    def half_width(self, tau: float) -> float:
        return self.eps_high

    def formula(self, positive: bool) -> Formula:
        if positive:
            high = 1 + self.eps_high
            return Formula(value=f"min(x, {high:.12g})", slope=f"where(x <= {high:.12g}, 1, 0)")
        low = 1 - self.eps_low
        return Formula(value=f"max(x, {low:.12g})", slope=f"where(x >= {low:.12g}, 1, 0)")


@dataclass(frozen=True, slots=True)
class NoGate:
    """f(r) = r: plain importance sampling. ``tau`` is not used; property (iv) of the paper does not hold."""

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return ratio

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.ones_like(ratio)

    def half_width(self, tau: float) -> float:
        return math.inf

    def formula(self, positive: bool) -> Formula:
        return Formula(value="x", slope="1")


_FAMILIES: dict[str, type] = {
    "sigmoid": Sigmoid,
    "erf": Erf,
    "arctan": Arctan,
    "softsign": Softsign,
    "clip": Clip,
    "none": NoGate,
}


def names() -> list[str]:
    """The names that :func:`get` knows, in the paper's order."""
    return list(_FAMILIES)


def get(name: str, **options: float) -> Gate:
    """The gate called ``name``; ``options`` are the family's own (``eps_low`` and ``eps_high`` of ``clip``).

    Raises:
      ValueError: ``name`` is not one of :func:`names`.
      TypeError: an option that the family does not have.
    """
    if name not in _FAMILIES:
        raise ValueError(f"gate must be one of {', '.join(names())}, got {name!r}")
    return _FAMILIES[name](**options)
