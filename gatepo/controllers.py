"""Schedules and controllers, which move tau and the KL coefficient during a run.

What a controller remembers lies in ``RunState.controls`` under its own key, so that a resumed run goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol, runtime_checkable

from gatepo.errors import UserError
from gatepo.objective.drift import Drift, eur_of
from gatepo.objective.gates import Gate
from gatepo.objective.kl import SAMPLING, KlPenalty
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import PAPERS, ConstantTau, Tau, TauPair
from gatepo.settings import FRACTION, POSITIVE, TEMPERATURE, Rule, name_of, one_of, option, require, setting

Controls = dict[str, float]


@runtime_checkable
class Controller(Protocol):
    """A controller changes the objective before every update, and learns from what the update did."""

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """Give the objective of the next update.

        Args:
          objective: as configured, or as other controllers left it.
          progress: 0 at the run's first update, 1 at its last.
          controls: what was remembered; empty at the start.
        """
        ...

    def learn(self, metrics: dict[str, float], controls: Controls, iterations: int) -> Controls:
        """Give what to remember after an update, of up to ``iterations`` on a rollout batch, with these metrics."""
        ...


@runtime_checkable
class LookingController(Protocol):
    """A controller that looks, before every update but a rollout batch's first, at how far the policy has moved."""

    def look(self, objective: Objective, devices: Sequence[Drift]) -> Objective:
        """Give the objective of the next update, from what :meth:`Controller.steer` gave and every device's drift."""
        ...


class _Moving(TauPair):
    """A pair that moves needs a gate that uses it."""

    __slots__ = ()

    def at_start(self, gate: Gate) -> Tau:
        """See :class:`gatepo.objective.tau.TauRule`.

        Raises:
          UserError: the gate does not use tau.
        """
        if gate.half_width(1.0) == gate.half_width(10.0):
            raise UserError(
                f"tau must stand still with a gate that does not use it, got tau={name_of(self)} with "
                f"gate={name_of(gate)}; type tau=paper"
            )
        return ConstantTau(pos=self.pos, neg=self.neg)


@option("tau", "schedule")
class TauSchedule(_Moving):
    """tau goes from one pair to another over the run: from the paper's widest to its narrowest, or any other two."""

    pos: float = setting("tau.pos at the start of the run.", default=1.0, rule=TEMPERATURE)
    neg: float = setting("tau.neg at the start of the run.", default=1.05, rule=TEMPERATURE)
    end_pos: float = setting("tau.pos at the end of the run.", default=13.0, rule=TEMPERATURE)
    end_neg: float = setting("tau.neg at the end of the run.", default=15.0, rule=TEMPERATURE)
    shape: str = setting(
        "tau stays, goes evenly, or along a cosine.", default="linear", rule=one_of("constant", "linear", "cosine")
    )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """See :class:`gatepo.objective.tau.TauRule`."""
        return (self.pos, self.neg, self.end_pos, self.end_neg)

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Controller`."""
        shapes = {"constant": 0.0, "linear": progress, "cosine": (1 - math.cos(math.pi * progress)) / 2}
        way = shapes[self.shape]
        pos = self.pos + way * (self.end_pos - self.pos)
        neg = self.neg + way * (self.end_neg - self.neg)
        return replace(objective, tau=ConstantTau(pos=pos, neg=neg))

    def learn(self, metrics: dict[str, float], controls: Controls, iterations: int) -> Controls:
        """See :class:`Controller`."""
        return {}


@option("tau", "target_eur")
class TargetEur(_Moving):
    """tau of each update after a rollout batch's first is the one at which EUR (eq. 12) is the target.

    It is solved for on that update's own tokens: the policy's log-probabilities are computed once more before the
    update, a forward pass, and log tau is halved in between until EUR(tau) = target, low <= tau.pos <= high. So nothing
    lags behind a drift that grows or shrinks, and there is no gain to choose. In the first update on a batch the policy
    has not moved and tau changes nothing; it stays as it was. tau.neg / tau.pos is that of the start. Tokens that the
    policy was sure of keep r = 1, and no tau takes them away: a low target may lie beyond ``high``.

    A controller of log tau that looks at the EUR of the rollout batch before cannot do this: 1 - EUR grows like tau^p
    at given ratios, where p is 2 near r = 1 and less in the tails, but like tau^1.1 in training, as a wider gate also
    lets the policy go further; and the drift follows the learning rate down.
    """

    KEY: ClassVar[str] = "tau/log_scale"
    LOOKS_BEYOND_FIRST: ClassVar[bool] = True
    HALVINGS: ClassVar[int] = 50

    pos: float = setting("tau.pos at the start of the run.", default=PAPERS[0], rule=TEMPERATURE)
    neg: float = setting("tau.neg at the start of the run.", default=PAPERS[1], rule=TEMPERATURE)
    target: float = setting("EUR of every iteration but the first.", default=0.9, rule=FRACTION)
    low: float = setting("The smallest tau.pos.", default=0.1, rule=TEMPERATURE)
    high: float = setting("The largest tau.pos.", default=1000.0, rule=TEMPERATURE)

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        _require_between("tau", "pos", self.pos, self.low, self.high)

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Controller`."""
        return replace(objective, tau=self._scaled(controls.get(self.KEY, 0.0)))

    def look(self, objective: Objective, devices: Sequence[Drift]) -> Objective:
        """See :class:`LookingController`."""
        low, high = math.log(self.low / self.pos), math.log(self.high / self.pos)
        for _ in range(self.HALVINGS):
            middle = (low + high) / 2
            above = eur_of(devices, objective.gate, self._scaled(middle)) > self.target
            low, high = (middle, high) if above else (low, middle)
        return replace(objective, tau=self._scaled((low + high) / 2))

    def learn(self, metrics: dict[str, float], controls: Controls, iterations: int) -> Controls:
        """See :class:`Controller`."""
        return {self.KEY: math.log(metrics["tau/pos"] / self.pos)}

    def _scaled(self, log_scale: float) -> ConstantTau:
        scale = math.exp(log_scale)
        return ConstantTau(pos=self.pos * scale, neg=self.neg * scale)


@option("kl", "adaptive")
class AdaptiveKl(KlPenalty):
    """PPO's rule for the coefficient of the KL penalty, after the last iteration of each rollout batch.

        KL > 1.5 target: beta <- 2 beta;   KL < target / 1.5: beta <- beta / 2

    Source: arXiv:1707.06347, section 4; 0.01 was its best target (section 6.1). DISC, arXiv:1905.02363, does the same.
    """

    KEY: ClassVar[str] = "kl/coefficient"
    LOOKS_BEYOND_FIRST: ClassVar[bool] = True
    LOOKS_AT_LAST_ITERATION: ClassVar[bool] = True

    reference: str = setting("As with kl=fixed; PPO has sampling.", default=SAMPLING, rule=one_of("initial", SAMPLING))
    coefficient: float = setting("beta at the start of the run.", default=1.0, rule=POSITIVE)
    target: float = setting("The KL of the last iteration to reach, nats per token.", default=0.01, rule=POSITIVE)
    low: float = setting("The smallest coefficient.", default=1e-3, rule=POSITIVE)
    high: float = setting("The largest coefficient.", default=1e3, rule=POSITIVE)

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        _require_between("kl", "coefficient", self.coefficient, self.low, self.high)

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Controller`."""
        return replace(objective, kl=replace(self, coefficient=controls.get(self.KEY, self.coefficient)))

    def learn(self, metrics: dict[str, float], controls: Controls, iterations: int) -> Controls:
        """See :class:`Controller`."""
        if f"eur/iteration_{iterations}" not in metrics:
            return {}
        factor = 2.0 if metrics["kl"] > 1.5 * self.target else 0.5 if metrics["kl"] < self.target / 1.5 else 1.0
        return {self.KEY: min(max(controls.get(self.KEY, self.coefficient) * factor, self.low), self.high)}


def _require_between(key: str, name: str, start: float, low: float, high: float) -> None:
    """What moves between two bounds begins between them."""
    require(f"{key}.high", Rule(f"must be > {key}.low = {low}", low.__lt__), high, "raise it")
    words = f"must be in [{key}.low, {key}.high] = [{low}, {high}]"
    require(f"{key}.{name}", Rule(words, lambda value: low <= value <= high), start, "start there")
