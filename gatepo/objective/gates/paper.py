"""The paper's gates (eq. 1 and 3 to 8): SAPO's sigmoid, erf, arctan, softsign, the hard clip, and none at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from gatepo.objective.gates.base import Bounds, Formula
from gatepo.settings import option

if TYPE_CHECKING:
    from torch import Tensor


@option("gate", "sigmoid")
class Sigmoid:
    """SAPO's gate (eq. 3, 5). f(1) = 2 / tau, as the equation has it; slope decays exponentially.

    >>> Sigmoid().slope(torch.tensor([1.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.sigmoid(tau * (ratio - 1)) * 4 / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        z = tau * (ratio - 1)
        return 4 * torch.sigmoid(z) * torch.sigmoid(-z)  # eq. 5 without its cancellation at large z

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 2 * math.acosh(math.sqrt(2)) / tau  # 4 s(z) s(-z) = sech^2(z/2)

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return Formula(value="4/tau * sigmoid(tau*(x-1))", slope="sech(tau*(x-1)/2)**2")


@option("gate", "erf")
class Erf:
    """The normal distribution's gate (eq. 6); slope decays like a Gaussian, closest to hard clipping.

    >>> Erf().slope(torch.tensor([1.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        # eq. 6 simplifies: its constants sqrt(pi / 2 tau^2) cancel.
        return 1 + math.sqrt(math.pi / 2) / tau * torch.erf(tau * (ratio - 1) / math.sqrt(2))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.exp(-((tau * (ratio - 1)) ** 2) / 2)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return math.sqrt(2 * math.log(2)) / tau

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return Formula(value="1 + sqrt(pi/2)/tau * erf(tau*(x-1)/sqrt(2))", slope="exp(-tau**2*(x-1)**2/2)")


@option("gate", "arctan")
class Arctan:
    """The arctangent gate (eq. 7); slope decays like 1/r^2, the heaviest tail of the paper's gates.

    >>> Arctan().slope(torch.tensor([1.1]), torch.tensor(10.0), torch.tensor(True))
    tensor([0.5000])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 1 + torch.atan(tau * (ratio - 1)) / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 1 / (1 + (tau * (ratio - 1)) ** 2)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 1 / tau

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return Formula(value="1 + atan(tau*(x-1))/tau", slope="1/(1 + tau**2*(x-1)**2)")


@option("gate", "softsign")
class Softsign:
    """The softsign gate (eq. 8); slope decays like 1/r^3.

    >>> Softsign().value(torch.tensor([1.0]), torch.tensor(10.0), torch.tensor(True))
    tensor([1.])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return 1 + (ratio - 1) * torch.rsqrt(1 + (tau * (ratio - 1)) ** 2)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return (1 + (tau * (ratio - 1)) ** 2) ** -1.5

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return math.sqrt(2 ** (2 / 3) - 1) / tau

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return Formula(value="1 + (x-1)/sqrt(1 + tau**2*(x-1)**2)", slope="(1 + tau**2*(x-1)**2)**(-3/2)")


@option("gate", "clip")
class Clip(Bounds):
    """PPO's and GRPO's hard clip (eq. 1) as a gate: A f(r) = min(r A, clip(r, 1 - eps_low, 1 + eps_high) A).

    The sign rule is the paper's (below eq. 12): A > 0 clips above, A <= 0 clips below. ``tau`` is not used.

    >>> Clip().slope(torch.tensor([0.5, 1.0, 1.5]), torch.tensor(10.0), torch.tensor(True))
    tensor([1., 1., 0.])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.where(positive, ratio.clamp(max=1 + self.eps_high), ratio.clamp(min=1 - self.eps_low))

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.where(positive, ratio <= 1 + self.eps_high, ratio >= 1 - self.eps_low).to(ratio.dtype)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self.eps_high

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        if positive:
            high = 1 + self.eps_high
            return Formula(value=f"min(x, {high:.12g})", slope=f"where(x <= {high:.12g}, 1, 0)")
        low = 1 - self.eps_low
        return Formula(value=f"max(x, {low:.12g})", slope=f"where(x >= {low:.12g}, 1, 0)")


@option("gate", "none")
class NoGate:
    """f(r) = r: plain importance sampling. ``tau`` is not used; property (iv) of the paper does not hold.

    >>> NoGate().value(torch.tensor([0.5, 1.5]), torch.tensor(10.0), torch.tensor(True))
    tensor([0.5000, 1.5000])
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return ratio

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return torch.ones_like(ratio)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return math.inf

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return Formula(value="x", slope="1")
