"""What a gate is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gatepo.settings import FRACTION, PAPER, section, setting

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Gate(Protocol):
    """A gate is a value f(r), its slope f'(r), and the slope's width.

    ``ratio`` is any tensor; ``tau`` and ``positive`` (True where A > 0) broadcast to it. Results have the shape of
    ``ratio``. All quantities are dimensionless.
    """

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """Give f(r), differentiable in ``ratio``; autograd of it is :meth:`slope`."""
        ...

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """Give f'(r) in closed form; it is 1 at r = 1."""
        ...

    def half_width(self, tau: float) -> float:
        """Give the distance above r = 1 at which the slope has fallen to 1/2 (for ``clip``, at which it ends)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula is a gate as text in x (the ratio) and tau, in the language of :mod:`gatepo.formulas.expression`."""

    slope: str
    value: str | None  # None: no closed form


@runtime_checkable
class Formulated(Protocol):
    """A gate may state its formula, from which ``python -m gatepo.gates`` proves what it can."""

    def formula(self, positive: bool) -> Formula:
        """Give the formula as it is where A > 0, or where A <= 0."""
        ...


@runtime_checkable
class Clipping(Protocol):
    """A gate may declare which ratios it clips, where that is not where its slope is below 1/2."""

    def clipped(self, ratio: Tensor, positive: Tensor) -> Tensor:
        """Say where a bound stands in for the ratio; bool, in the shape of ``ratio``."""
        ...


def clipped(gate: Gate, ratio: Tensor, slope: Tensor, positive: Tensor) -> Tensor:
    """Say which ratios a gate clips: what it declares, else where its slope is below 1/2; bool.

    For ``clip`` those are the clipped tokens, for a smooth gate those beyond its half-width.
    """
    return gate.clipped(ratio, positive) if isinstance(gate, Clipping) else slope < 0.5


@section("gate")
class Bounds:
    """Two bounds of the ratio are what PPO's clip and its relatives share (eq. 1)."""

    eps_low: float = setting("Where A <= 0, r < 1 - eps_low is clipped.", default=0.2, rule=FRACTION, remedy=PAPER)
    eps_high: float = setting("Where A > 0, r > 1 + eps_high is clipped.", default=0.2, rule=FRACTION, remedy=PAPER)
