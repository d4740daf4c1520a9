"""The gate's temperature, chosen by the sign of the advantage (eq. 3).

The rules that stand still are here; those that move tau during a run are in :mod:`gatepo.controllers`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch

from gatepo.errors import UserError
from gatepo.objective.gates import Gate
from gatepo.settings import POSITIVE, TEMPERATURE, option, section, setting

if TYPE_CHECKING:
    from torch import Tensor

PAPERS = (10.0, 12.0)
"""tau.pos and tau.neg of the paper's best pair (section 5.2); conf/tau/paper.yaml shows it to the command line."""
_PAPERS = "type tau=paper for the paper's pair"


class Tau(Protocol):
    """The pair of temperatures in force."""

    @property
    def pos(self) -> float:
        """Give the temperature where A > 0."""
        ...

    @property
    def neg(self) -> float:
        """Give the temperature where A <= 0."""
        ...


class TauRule(Protocol):
    """What is chosen by ``tau=NAME``: how a gate gets its temperatures."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures at which the gate must be usable from the start."""
        ...

    def at_start(self, gate: Gate) -> Tau:
        """Give the pair with which a run begins."""
        ...


@section("tau")
class TauPair:
    """tau_pos where A > 0, tau_neg otherwise (eq. 3)."""

    pos: float = setting("The gate's temperature where A > 0.", rule=TEMPERATURE, remedy=_PAPERS)
    neg: float = setting("The gate's temperature where A <= 0.", rule=TEMPERATURE, remedy=_PAPERS)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """See :class:`TauRule`."""
        return (self.pos, self.neg)


@option("tau", "constant")
class ConstantTau(TauPair):
    """The same pair for the whole run.

    >>> ConstantTau(pos=10, neg=12)
    ConstantTau(pos=10, neg=12)
    """

    def at_start(self, gate: Gate) -> Tau:
        """See :class:`TauRule`."""
        return self


@option("tau", "matched")
class MatchedTau:
    """tau follows from the gate, so that every gate has this half-width and gates compare by shape alone.

    >>> from gatepo.objective.gates import Arctan
    >>> MatchedTau(half_width=0.1).at_start(Arctan())
    ConstantTau(pos=10.000000000000002, neg=12.000000000000002)
    """

    half_width: float = setting("The slope is 1/2 this far above r = 1, where A > 0.", default=0.1, rule=POSITIVE)
    neg_over_pos: float = setting("tau.neg over tau.pos, as in the paper's 12 / 10.", default=1.2, rule=POSITIVE)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """See :class:`TauRule`; tau is not known before the gate is."""
        return (1.0, 10.0)

    def at_start(self, gate: Gate) -> Tau:
        """See :class:`TauRule`.

        Raises:
          UserError: the gate cannot have this width.
        """
        try:
            pos = tau_with_half_width(gate, self.half_width)
        except ValueError as error:
            raise UserError(
                f"tau.half_width must be a width that the gate can have, got {self.half_width} ({error}); "
                "choose another gate or another tau"
            ) from error
        return ConstantTau(pos=pos, neg=pos * self.neg_over_pos)


def tau_by_sign(advantage: Tensor, tau: Tau) -> Tensor:
    """Choose each tau by the sign of its advantage (eq. 3): ``tau.pos`` where A > 0, ``tau.neg`` where A <= 0.

    In the shape of the advantages, dimensionless.
    """
    return torch.where(advantage > 0, advantage.new_tensor(tau.pos), advantage.new_tensor(tau.neg))


def tau_with_half_width(gate: Gate, half_width: float) -> float:
    """Find the tau at which the gate's slope is 1/2 at the distance ``half_width`` above r = 1.

    Equal tau compares widths as much as shapes: the half-widths are 1.763, 1.177, 1 and 0.766 over tau for sigmoid,
    erf, arctan and softsign.

    Raises:
      ValueError: the gate's width does not depend on tau, or no tau in [1e-6, 1e6] gives this one.

    >>> from gatepo.objective.gates import Arctan
    >>> round(tau_with_half_width(Arctan(), 0.1), 6)
    10.0
    """
    low, high = math.log(1e-6), math.log(1e6)
    if not gate.half_width(math.exp(high)) < half_width < gate.half_width(math.exp(low)):
        raise ValueError(f"no tau gives {gate} the half-width {half_width}")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gate.half_width(math.exp(middle)) > half_width else (low, middle)
    return math.exp((low + high) / 2)
