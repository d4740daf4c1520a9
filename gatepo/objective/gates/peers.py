"""The gates of other methods, whose slope is best read off the coefficient c = r f'(r)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gatepo.objective.gates.base import Bounds, Formula
from gatepo.objective.gates.paper import Clip
from gatepo.settings import ABOVE_ONE, POSITIVE, at_least, option, setting

if TYPE_CHECKING:
    from torch import Tensor


@option("gate", "dual_clip")
class DualClip(Bounds):
    """PPO's clip with a second bound where A <= 0: A f(r) = max(min(r A, clip(r) A), c A). ``tau`` is not used.

    Without it a token whose probability has grown much is pushed down with the weight r, however large.

    Source: Ye et al., *Mastering Complex Control in MOBA Games with Deep Reinforcement Learning*, 2019, eq. 5.

    >>> DualClip().slope(torch.tensor([0.5, 1.0, 4.0]), torch.tensor(10.0), torch.tensor(False))
    tensor([0., 1., 0.])
    """

    c: float = setting("Ratios above c are clipped too where A <= 0.", default=3.0, rule=ABOVE_ONE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.where(positive, ratio.clamp(max=1 + self.eps_high), ratio.clamp(1 - self.eps_low, self.c))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        negative_side = (ratio >= 1 - self.eps_low) & (ratio <= self.c)
        return torch.where(positive, ratio <= 1 + self.eps_high, negative_side).to(ratio.dtype)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self.eps_high

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        if positive:
            return Clip(eps_low=self.eps_low, eps_high=self.eps_high).formula(True)
        low, c = f"{1 - self.eps_low:.12g}", f"{self.c:.12g}"
        return Formula(value=f"min(max(x, {low}), {c})", slope=f"where(x < {low}, 0, where(x <= {c}, 1, 0))")


@option("gate", "cispo")
class Cispo:
    """CISPO's bounded importance weight, for both signs of A: c = r f'(r) = min(r, 1 + eps_high). ``tau`` is not used.

    The paper's loss is sg(c) A log pi, whose gradient is that of f(r) = r up to the bound b = 1 + eps_high and
    b (1 + log(r / b)) beyond. c does not vanish: property (iv) does not hold, by intention.

    Source: MiniMax-M1, arXiv:2506.13585, eq. 4 and 5; it sets no lower bound.

    >>> Cispo().slope(torch.tensor([1.0, 10.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.0000, 0.5000])
    """

    # The paper gives no value; 4 bounds the weight by 5, as TRL recommends.
    eps_high: float = setting("The coefficient r f'(r) is bounded by 1 + eps_high.", default=4.0, rule=POSITIVE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        bound = 1 + self.eps_high
        return torch.where(ratio <= bound, ratio, bound * (1 + torch.log(ratio / bound)))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return ((1 + self.eps_high) / ratio).clamp(max=1)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 1 + 2 * self.eps_high

    def clipped(self, ratio: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Clipping`; the bounded weights."""
        return ratio > 1 + self.eps_high

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        bound = f"{1 + self.eps_high:.12g}"
        return Formula(
            value=f"where(x <= {bound}, x, {bound} * (1 + log(x/{bound})))", slope=f"where(x <= {bound}, 1, {bound}/x)"
        )


@option("gate", "ce_gppo")
class CeGppo(Bounds):
    """CE-GPPO's clip that keeps a bounded gradient outside. ``tau`` is not used.

    Where PPO clips, r f'(r) is not 0 but beta_high (1 + eps_high) for A > 0 and beta_low (1 - eps_low) for A <= 0.
    Above r = c it is 0 for A <= 0, as with a dual clip.

    Source: Su et al., arXiv:2509.20712, where beta_low is beta_1 and beta_high beta_2, and the authors' code
    (Kwai-Klear/CE-GPPO): ``compute_gppo_loss_general_beta`` of verl/trainer/ppo/core_algos.py, with the values of
    recipe/dapo/7B_perf_run_gppo_v1_beta1_075_beta2_1_ours_math.sh; the 1.5B script has beta_1 0.5, the code's default
    is 0.25. The paper's objective has no c.

    >>> CeGppo().slope(torch.tensor([1.0, 2.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.0000, 0.6000])
    """

    beta_low: float = setting(
        "Share of the bound's gradient kept below; authors' beta_1.", default=0.75, rule=at_least(0)
    )
    beta_high: float = setting(
        "Share of the bound's gradient kept above; authors' beta_2.", default=1.0, rule=at_least(0)
    )
    c: float = setting("Ratios above c are clipped too where A <= 0.", default=10.0, rule=ABOVE_ONE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        high, low = 1 + self.eps_high, 1 - self.eps_low
        above = torch.where(ratio > high, high * (1 + self.beta_high * torch.log(ratio / high)), ratio)
        below = torch.where(ratio < low, low * (1 + self.beta_low * torch.log(ratio / low)), ratio.clamp(max=self.c))
        return torch.where(positive, above, below)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        high, low = 1 + self.eps_high, 1 - self.eps_low
        above = torch.where(ratio > high, self.beta_high * high / ratio, 1.0)
        below = torch.where(ratio < low, self.beta_low * low / ratio, (ratio <= self.c).to(ratio.dtype))
        return torch.where(positive, above, below)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return max(self.eps_high, 2 * self.beta_high * (1 + self.eps_high) - 1)

    def clipped(self, ratio: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Clipping`; what PPO clips, part of whose gradient is kept."""
        return torch.where(positive, ratio > 1 + self.eps_high, (ratio < 1 - self.eps_low) | (ratio > self.c))

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        edge, beta = (1 + self.eps_high, self.beta_high) if positive else (1 - self.eps_low, self.beta_low)
        outside = f"x > {edge:.12g}" if positive else f"x < {edge:.12g}"
        inside, one = ("x", "1") if positive else (f"min(x, {self.c:.12g})", f"where(x <= {self.c:.12g}, 1, 0)")
        return Formula(
            value=f"where({outside}, {edge:.12g} * (1 + {beta:.12g}*log(x/{edge:.12g})), {inside})",
            slope=f"where({outside}, {beta * edge:.12g}/x, {one})",
        )


@option("gate", "aspo")
class Aspo(Bounds):
    """ASPO's flipped weight where A > 0: c = r f'(r) = min(1/r, c_max) up to r = 1 + eps_high, 0 beyond.

    Tokens that have become rarer are raised more, not less. Where A <= 0 it is PPO's clip below, and c = c_max from
    r = c_max on ("soft" dual clip: bounded, not cut). ``tau`` is not used; the slope passes 1 below r = 1, so property
    (ii) does not hold, by intention.

    Source: Wang et al., arXiv:2510.06062, and the authors' code (Archer2.0, ``compute_policy_loss_archer``).

    >>> Aspo().slope(torch.tensor([0.5, 1.0, 2.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([4., 1., 0.])
    """

    c: float = setting("The coefficient r f'(r) is at most c.", default=3.0, rule=ABOVE_ONE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        rare = 2 - self.c + self.c * torch.log(ratio * self.c)
        raised = torch.where(ratio < 1 / self.c, rare, 2 - 1 / ratio.clamp(min=1 / self.c, max=1 + self.eps_high))
        kept = ratio.clamp(min=1 - self.eps_low)
        lowered = torch.where(kept > self.c, self.c * (1 + torch.log(kept / self.c)), kept)
        return torch.where(positive, raised, lowered)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        raised = torch.where(ratio <= 1 + self.eps_high, (1 / ratio).clamp(max=self.c) / ratio, 0.0)
        lowered = torch.where(ratio >= 1 - self.eps_low, (self.c / ratio).clamp(max=1), 0.0)
        return torch.where(positive, raised, lowered)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self.eps_high

    def clipped(self, ratio: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Clipping`; the masked tokens, and the weights bounded by c."""
        raised = (ratio > 1 + self.eps_high) | (ratio < 1 / self.c)
        return torch.where(positive, raised, (ratio < 1 - self.eps_low) | (ratio > self.c))

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
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


@option("gate", "gamma")
class Gamma:
    """VESPO's weight c = r f'(r) = r^k exp(lambda (1 - r)), with k and lambda by the sign of A. ``tau`` is not used.

    The value is an incomplete gamma function: f(r) = exp(lambda) Gamma(k) / lambda^k P(k, lambda r), moved to f(1) = 1.
    The slope peaks at r = (k - 1) / lambda, which is below 1 for A > 0: property (ii) does not hold.

    Source: VESPO, arXiv:2602.10693; defaults as in TRL's ``vespo_*`` options.

    >>> Gamma().slope(torch.tensor([1.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.])
    """

    k_pos: float = setting("The ratio has this exponent where A > 0.", default=2.0, rule=POSITIVE)
    lambda_pos: float = setting("The exponential has this rate where A > 0.", default=3.0, rule=POSITIVE)
    k_neg: float = setting("The ratio has this exponent where A <= 0.", default=3.0, rule=POSITIVE)
    lambda_neg: float = setting("The exponential has this rate where A <= 0.", default=2.0, rule=POSITIVE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.where(
            positive, _gamma_value(ratio, self.k_pos, self.lambda_pos), _gamma_value(ratio, self.k_neg, self.lambda_neg)
        )

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        k = torch.where(positive, self.k_pos, self.k_neg).to(ratio.dtype)
        rate = torch.where(positive, self.lambda_pos, self.lambda_neg).to(ratio.dtype)
        return torch.exp((k - 1) * torch.log(ratio) + rate * (1 - ratio))

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""

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
        """See :class:`~gatepo.objective.gates.Formulated`."""
        k, rate = (self.k_pos, self.lambda_pos) if positive else (self.k_neg, self.lambda_neg)
        return Formula(value=None, slope=f"x**({k:.12g} - 1) * exp({rate:.12g}*(1-x))")


def _gamma_value(ratio: Tensor, k: float, rate: float) -> Tensor:
    scale = math.exp(rate + math.lgamma(k) - k * math.log(rate))
    shape, at_one = torch.full_like(ratio, k), torch.tensor([k, rate], dtype=torch.float64)
    return scale * (torch.special.gammainc(shape, rate * ratio) - torch.special.gammainc(*at_one).item()) + 1
