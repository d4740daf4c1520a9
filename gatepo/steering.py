"""What moves a part of the objective over the run: schedules and controllers.

What a controller remembers lies in ``RunState.controls`` under its own key, so that a resumed run goes on exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau

Controls = dict[str, float]


class Steering(Protocol):
    """Changes the objective before every update, and learns from what the update did."""

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """The objective of the next update.

        Args:
          objective: as configured, or as other steerings left it.
          progress: 0 at the run's first update, 1 at its last.
          controls: what was remembered; empty at the start.
        """
        ...

    def learn(self, metrics: dict[str, float], controls: Controls) -> Controls:
        """What to remember after an update with these metrics."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TauSchedule:
    """tau from ``start`` to ``end``, by the share of the run that is done.

    Args:
      shape: constant (stays at the start), linear, or cosine (half a cosine: slow, fast, slow).
    """

    shape: str
    start: ConstantTau
    end: ConstantTau

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Steering`."""
        shapes = {"constant": 0.0, "linear": progress, "cosine": (1 - math.cos(math.pi * progress)) / 2}
        way = shapes[self.shape]
        pos = self.start.pos + way * (self.end.pos - self.start.pos)
        neg = self.start.neg + way * (self.end.neg - self.start.neg)
        return replace(objective, tau=ConstantTau(pos=pos, neg=neg))

    def learn(self, metrics: dict[str, float], controls: Controls) -> Controls:
        """See :class:`Steering`."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEur:
    """A controller of log tau: it compares the share that the gate takes away, 1 - EUR, with the target's.

        log tau <- log tau + gain log((1 - target) / (1 - EUR)),   low <= tau.pos <= high

    1 - EUR grows like tau^p, p being 2 for the paper's gates near r = 1 and less in the tails, so that a step removes
    gain p of the error whatever the size of the drift, and a gain below 1 cannot swing. EUR itself is a poor measure:
    near 1 it hardly moves with tau, and such a controller lags behind a drift that shrinks as the learning rate does.
    A step is at most a factor of 2, since an EUR of 1 says nothing of how far. tau.neg / tau.pos stays what it was.
    """

    KEY = "tau/log_scale"

    target: float
    gain: float
    start: ConstantTau
    low: float
    high: float
    iteration: int  # the last of a rollout batch

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Steering`."""
        scale = math.exp(controls.get(self.KEY, 0.0))
        return replace(objective, tau=ConstantTau(pos=self.start.pos * scale, neg=self.start.neg * scale))

    def learn(self, metrics: dict[str, float], controls: Controls) -> Controls:
        """See :class:`Steering`."""
        eur = metrics.get(f"eur/iteration_{self.iteration}")
        if eur is None:
            return {}
        error = math.log((1 - self.target) / max(1 - eur, 1e-12))
        step = min(max(self.gain * error, -math.log(2)), math.log(2))
        wanted = controls.get(self.KEY, 0.0) + step
        low, high = math.log(self.low / self.start.pos), math.log(self.high / self.start.pos)
        return {self.KEY: min(max(wanted, low), high)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveKl:
    """PPO's rule for the coefficient of the KL penalty, after the last iteration of each rollout batch.

        KL > 1.5 target: beta <- 2 beta;   KL < target / 1.5: beta <- beta / 2

    Source: arXiv:1707.06347, section 4. DISC (arXiv:1905.02363) steers its penalty by the same rule.
    """

    KEY = "kl/coefficient"

    start: float
    target: float
    low: float
    high: float
    iteration: int  # the last of a rollout batch

    def steer(self, objective: Objective, progress: float, controls: Controls) -> Objective:
        """See :class:`Steering`."""
        assert objective.kl is not None
        return replace(objective, kl=replace(objective.kl, coefficient=controls.get(self.KEY, self.start)))

    def learn(self, metrics: dict[str, float], controls: Controls) -> Controls:
        """See :class:`Steering`."""
        if f"eur/iteration_{self.iteration}" not in metrics:
            return {}
        factor = 2.0 if metrics["kl"] > 1.5 * self.target else 0.5 if metrics["kl"] < self.target / 1.5 else 1.0
        return {self.KEY: min(max(controls.get(self.KEY, self.start) * factor, self.low), self.high)}
