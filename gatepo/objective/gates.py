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

The peers' gates, whose slope is best read off the coefficient c = r f'(r):

    dual_clip  clip, and A <= 0: min(., c)             0 above c too               Ye et al. 2019
    cispo      c = min(r, 1+eps_high)                  min(1, (1+eps_high) / r)    MiniMax-M1
    ce_gppo    outside the clip c = beta (1 +- eps)    beta (1 +- eps) / r         Su et al. 2025
    aspo       A > 0: c = min(1/r, c_max) within eps   c / r                       Wang et al. 2025
    gamma      c = r^k exp(lambda (1 - r))             c / r                       VESPO

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DualClip:
    """PPO's clip with a second bound where A <= 0: A f(r) = max(min(r A, clip(r) A), c A). ``tau`` is not used.

    Without it a token whose probability has grown much is pushed down with the weight r, however large.

    Source: Ye et al., *Mastering Complex Control in MOBA Games with Deep Reinforcement Learning*, 2019, eq. 5.
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    c: float = 3.0

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.where(positive, ratio.clamp(max=1 + self.eps_high), ratio.clamp(1 - self.eps_low, self.c))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        negative_side = (ratio >= 1 - self.eps_low) & (ratio <= self.c)
        return torch.where(positive, ratio <= 1 + self.eps_high, negative_side).to(ratio.dtype)

    def half_width(self, tau: float) -> float:
        return self.eps_high

    def formula(self, positive: bool) -> Formula:
        if positive:
            return Clip(eps_low=self.eps_low, eps_high=self.eps_high).formula(True)
        low, c = f"{1 - self.eps_low:.12g}", f"{self.c:.12g}"
        return Formula(value=f"min(max(x, {low}), {c})", slope=f"where(x < {low}, 0, where(x <= {c}, 1, 0))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cispo:
    """CISPO's bounded importance weight, for both signs of A: c = r f'(r) = min(r, 1 + eps_high). ``tau`` is not used.

    The paper's loss is sg(c) A log pi, whose gradient is that of f(r) = r up to the bound b = 1 + eps_high and
    b (1 + log(r / b)) beyond. c does not vanish: property (iv) does not hold, by intention.

    Source: MiniMax-M1, arXiv:2506.13585, eq. 4 and 5; it sets no lower bound.
    """

    eps_high: float = 4.0

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        bound = 1 + self.eps_high
        return torch.where(ratio <= bound, ratio, bound * (1 + torch.log(ratio / bound)))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return ((1 + self.eps_high) / ratio).clamp(max=1)

    def half_width(self, tau: float) -> float:
        return 1 + 2 * self.eps_high

    def formula(self, positive: bool) -> Formula:
        bound = f"{1 + self.eps_high:.12g}"
        return Formula(
            value=f"where(x <= {bound}, x, {bound} * (1 + log(x/{bound})))", slope=f"where(x <= {bound}, 1, {bound}/x)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CeGppo:
    """CE-GPPO's clip that keeps a bounded gradient outside. ``tau`` is not used.

    Where PPO clips, c = r f'(r) is not 0 but beta_high (1 + eps_high) for A > 0 and beta_low (1 - eps_low) for A <= 0.

    Source: Su et al., arXiv:2509.20712; beta_low = beta_1 and beta_high = beta_2 there. The authors' code has a dual
    clip at 3 beside it, which the paper's objective has not; here there is none.
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    beta_low: float = 0.75
    beta_high: float = 1.0

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        high, low = 1 + self.eps_high, 1 - self.eps_low
        above = torch.where(ratio > high, high * (1 + self.beta_high * torch.log(ratio / high)), ratio)
        below = torch.where(ratio < low, low * (1 + self.beta_low * torch.log(ratio / low)), ratio)
        return torch.where(positive, above, below)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        high, low = 1 + self.eps_high, 1 - self.eps_low
        above = torch.where(ratio > high, self.beta_high * high / ratio, 1.0)
        below = torch.where(ratio < low, self.beta_low * low / ratio, 1.0)
        return torch.where(positive, above, below)

    def half_width(self, tau: float) -> float:
        return max(self.eps_high, 2 * self.beta_high * (1 + self.eps_high) - 1)

    def formula(self, positive: bool) -> Formula:
        edge, beta = (1 + self.eps_high, self.beta_high) if positive else (1 - self.eps_low, self.beta_low)
        outside = f"x > {edge:.12g}" if positive else f"x < {edge:.12g}"
        return Formula(
            value=f"where({outside}, {edge:.12g} * (1 + {beta:.12g}*log(x/{edge:.12g})), x)",
            slope=f"where({outside}, {beta * edge:.12g}/x, 1)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspo:
    """ASPO's flipped weight where A > 0: c = r f'(r) = min(1/r, c_max) up to r = 1 + eps_high, 0 beyond.

    Tokens that have become rarer are raised more, not less. Where A <= 0 it is PPO's clip below, and c = c_max from
    r = c_max on ("soft" dual clip: bounded, not cut). ``tau`` is not used; the slope passes 1 below r = 1, so property
    (ii) does not hold, by intention.

    Source: Wang et al., arXiv:2510.06062, and the authors' code (Archer2.0, ``compute_policy_loss_archer``).
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    c: float = 3.0

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        rare = 2 - self.c + self.c * torch.log(ratio * self.c)
        raised = torch.where(ratio < 1 / self.c, rare, 2 - 1 / ratio.clamp(min=1 / self.c, max=1 + self.eps_high))
        kept = ratio.clamp(min=1 - self.eps_low)
        lowered = torch.where(kept > self.c, self.c * (1 + torch.log(kept / self.c)), kept)
        return torch.where(positive, raised, lowered)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        raised = torch.where(ratio <= 1 + self.eps_high, (1 / ratio).clamp(max=self.c) / ratio, 0.0)
        lowered = torch.where(ratio >= 1 - self.eps_low, (self.c / ratio).clamp(max=1), 0.0)
        return torch.where(positive, raised, lowered)

    def half_width(self, tau: float) -> float:
        return self.eps_high

    def formula(self, positive: bool) -> Formula:
        c, rare, low, high = (f"{n:.12g}" for n in (self.c, 1 / self.c, 1 - self.eps_low, 1 + self.eps_high))
        if positive:
            return Formula(
                value=f"where(x < {rare}, 2 - {c} + {c}*log({c}*x), 2 - 1/min(max(x, {rare}), {high}))",
                slope=f"where(x < {rare}, {c}/x, where(x <= {high}, 1/x**2, 0))",
            )
        return Formula(
            value=f"where(x > {c}, {c} * (1 + log(x/{c})), max(x, {low}))",
            slope=f"where(x < {low}, 0, where(x <= {c}, 1, {c}/x))",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma:
    """VESPO's weight c = r f'(r) = r^k exp(lambda (1 - r)), with k and lambda by the sign of A. ``tau`` is not used.

    The value is an incomplete gamma function: f(r) = exp(lambda) Gamma(k) / lambda^k P(k, lambda r), moved to f(1) = 1.
    The slope peaks at r = (k - 1) / lambda, which is below 1 for A > 0: property (ii) does not hold.

    Source: VESPO, arXiv:2602.10693; defaults as in TRL's ``vespo_*`` options.
    """

    k_pos: float = 2.0
    lambda_pos: float = 3.0
    k_neg: float = 3.0
    lambda_neg: float = 2.0

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        return torch.where(
            positive, _gamma_value(ratio, self.k_pos, self.lambda_pos), _gamma_value(ratio, self.k_neg, self.lambda_neg)
        )

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        k = torch.where(positive, self.k_pos, self.k_neg).to(ratio.dtype)
        rate = torch.where(positive, self.lambda_pos, self.lambda_neg).to(ratio.dtype)
        return torch.exp((k - 1) * torch.log(ratio) + rate * (1 - ratio))

    def half_width(self, tau: float) -> float:
        def slope(distance: float) -> float:
            return (1 + distance) ** (self.k_pos - 1) * math.exp(-self.lambda_pos * distance)

        low, high = 0.0, 1.0
        while slope(high) > 0.5:
            high *= 2
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0.5 else (low, middle)
        return low

    def formula(self, positive: bool) -> Formula:
        k, rate = (self.k_pos, self.lambda_pos) if positive else (self.k_neg, self.lambda_neg)
        return Formula(value=None, slope=f"x**({k:.12g} - 1) * exp({rate:.12g}*(1-x))")


def _gamma_value(ratio: Tensor, k: float, rate: float) -> Tensor:
    scale = math.exp(rate + math.lgamma(k) - k * math.log(rate))
    shape, at_one = torch.full_like(ratio, k), torch.tensor([k, rate], dtype=torch.float64)
    return scale * (torch.special.gammainc(shape, rate * ratio) - torch.special.gammainc(*at_one).item()) + 1


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
    "dual_clip": DualClip,
    "cispo": Cispo,
    "ce_gppo": CeGppo,
    "aspo": Aspo,
    "gamma": Gamma,
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
