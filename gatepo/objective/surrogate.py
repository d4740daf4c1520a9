"""The surrogate loss: ratio, gate, tau and aggregation put together (eq. 2).

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch

from gatepo.objective.aggregation import Aggregation, NotLinear, SequenceMean, Totals
from gatepo.objective.correction import Correction, NoCorrection
from gatepo.objective.gates import Gate
from gatepo.objective.gates.base import clipped
from gatepo.objective.kl import SAMPLING, Kl, NoKl
from gatepo.objective.ratio import Ratio, TokenRatio
from gatepo.objective.tau import Tau, tau_by_sign

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """A gate at the ratios of some tokens; all [N, T], dimensionless."""

    value_NT: Tensor  # f(r) - f(1) + 1; the gradient flows through it
    slope_NT: Tensor  # f'(r), detached
    clipped_NT: Tensor  # bool: whether the gate clips the token


def gated(gate: Gate, tau: Tau, log_ratio_NT: Tensor, advantage_NT: Tensor) -> Gated:
    """Take the gate's value and slope at each ratio, with tau by the sign of A (eq. 3).

    The value is f(r) - f(1) + 1, so that all gates pass through (1, 1) as in Figure 1 and their losses can be compared;
    eq. 3 alone has f(1) = 2 / tau. The gradient is the same.

    Args:
      gate: f and f'.
      tau: its pair of temperatures.
      log_ratio_NT: log r, masked and clamped (:class:`gatepo.objective.ratio.TokenRatio`), nats.
      advantage_NT: A, in a shape that broadcasts to it.
    """
    ratio_NT = log_ratio_NT.exp()
    tau_NT, positive_NT = tau_by_sign(advantage_NT, tau), advantage_NT > 0
    at_one_NT = gate.value(torch.ones_like(tau_NT), tau_NT, positive_NT)
    # f(1) - 1 first: with f(r) + 1 in between, fp32 would make 0 of the clip's f(r) = r below 6e-8, and GMPO's log NaN.
    value_NT = gate.value(ratio_NT, tau_NT, positive_NT) - (at_one_NT - 1)
    with torch.no_grad():
        slope_NT = gate.slope(ratio_NT, tau_NT, positive_NT)
        clipped_NT = clipped(gate, ratio_NT, slope_NT, positive_NT)
    return Gated(value_NT=value_NT, slope_NT=slope_NT, clipped_NT=clipped_NT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One choice on each axis; together they are a method. What is left out is the paper's choice.

    >>> from gatepo.objective.gates import Erf
    >>> from gatepo.objective.tau import ConstantTau
    >>> Objective(gate=Erf(), tau=ConstantTau(pos=10, neg=12)).penalises_kl
    False
    """

    gate: Gate
    tau: Tau
    ratio: Ratio = field(default_factory=TokenRatio)
    aggregation: Aggregation = field(default_factory=SequenceMean)
    correction: Correction = field(default_factory=NoCorrection)
    kl: Kl = field(default_factory=NoKl)
    anchor: str = "old"  # what the ratio divides by: "old", the trainer's log pi_old, or "rollout", the sampler's

    @property
    def penalises_kl(self) -> bool:
        """Whether the loss has a KL penalty."""
        return self.kl.reference is not None

    def learns_from(self, advantage_N: Tensor) -> Tensor:
        """Say which completions add anything to the gradient: those with A != 0 (eq. 4), all under a KL penalty.

        All of them count in the telemetry.
        """
        return torch.ones_like(advantage_N, dtype=torch.bool) if self.penalises_kl else advantage_N != 0

    def gated(self, logp_NT: Tensor, anchor_NT: Tensor, advantage_N: Tensor, mask_NT: Tensor) -> tuple[Gated, Tensor]:
        """Take the gate at every token, and the log-ratio itself, [N, T]; arguments as in :func:`policy_loss`."""
        log_ratio_NT = self.ratio(logp_NT, anchor_NT, mask_NT)
        return gated(self.gate, self.tau, log_ratio_NT, advantage_N[:, None]), log_ratio_NT

    def coefficient(self, found: Gated, log_ratio_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Give the factor of A grad log pi at every token, [N, T]: r f'(r) (eq. 4) where the aggregation is linear."""
        with torch.no_grad():
            coefficient_NT = log_ratio_NT.exp() * found.slope_NT
            if isinstance(self.aggregation, NotLinear):
                coefficient_NT = coefficient_NT * self.aggregation.coefficient_factor(found.value_NT, mask_NT)
            return coefficient_NT


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What each completion token contributed, detached, for the telemetry; all [N, T] but the advantage.

    >>> one = torch.ones(1, 1)
    >>> TokenRecord(log_ratio_NT=0 * one, slope_NT=one, coefficient_NT=one, clipped_NT=one < 0, entropy_NT=one,
    ...             correction_NT=one, kl_NT=one, mask_NT=one > 0, advantage_N=torch.ones(1)).slope_NT
    tensor([[1.]])
    """

    log_ratio_NT: Tensor
    slope_NT: Tensor
    coefficient_NT: Tensor  # of A grad log pi: r f'(r) (eq. 4), unless the aggregation is not linear
    clipped_NT: Tensor  # bool
    entropy_NT: Tensor
    correction_NT: Tensor
    kl_NT: Tensor
    mask_NT: Tensor
    advantage_N: Tensor

    def rows(self, index_N: Tensor) -> TokenRecord:
        """Take the named completions, in this order."""
        return TokenRecord(**{f.name: getattr(self, f.name)[index_N] for f in fields(self)})

    def cpu(self) -> TokenRecord:
        """Move all of it to the CPU."""
        return TokenRecord(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})


def policy_loss(
    objective: Objective,
    *,
    logp_NT: Tensor,
    anchor_NT: Tensor,
    advantage_N: Tensor,
    mask_NT: Tensor,
    sampler_NT: Tensor | None = None,
    reference_NT: Tensor | None = None,
    entropy_NT: Tensor | None = None,
    totals: Totals | None = None,
) -> tuple[Tensor, TokenRecord]:
    """Compute a micro-batch's share of -J(theta) (eq. 2) and of its KL penalty, and the record of its tokens.

    Args:
      objective: the method.
      logp_NT: log pi_theta of the sampled tokens, nats; the gradient flows through it.
      anchor_NT: log pi_old of the same tokens, nats, no gradient.
      advantage_N: one advantage per completion.
      mask_NT: True on completion tokens.
      sampler_NT: log-probability by the sampler, nats, for the correction of its mismatch; None takes the anchor.
      reference_NT: log-probability by the untrained model, nats, for a KL penalty on the divergence from it.
      entropy_NT: policy entropy at each token, nats, no gradient; only recorded. None records zeros.
      totals: the whole update's denominators; None where these completions are the whole update.
    Returns: the scalar loss and a :class:`TokenRecord`.

    >>> from gatepo.objective.gates import NoGate
    >>> from gatepo.objective.tau import ConstantTau
    >>> objective = Objective(gate=NoGate(), tau=ConstantTau(pos=10, neg=12))
    >>> logp, anchor = torch.tensor([[-1.0, -0.5]]), torch.tensor([[-1.0, -0.5]])
    >>> loss, record = policy_loss(objective, logp_NT=logp, anchor_NT=anchor, advantage_N=torch.tensor([2.0]),
    ...                            mask_NT=torch.ones(1, 2).bool())
    >>> loss  # -A f(r), and f(1) = 1
    tensor(-2.)
    """
    found, log_ratio_NT = objective.gated(logp_NT, anchor_NT, advantage_N, mask_NT)
    if totals is None:
        totals = Totals(completions=len(mask_NT), tokens=int(mask_NT.sum()))
    with torch.no_grad():
        correction_NT = objective.correction(anchor_NT, anchor_NT if sampler_NT is None else sampler_NT, mask_NT)
    loss = -objective.aggregation(found.value_NT, correction_NT * advantage_N[:, None], mask_NT, totals)
    kl_NT = torch.zeros_like(log_ratio_NT)
    if objective.penalises_kl:
        other_NT = anchor_NT if objective.kl.reference == SAMPLING else reference_NT
        assert other_NT is not None, "a KL penalty on the initial policy needs its log-probabilities"
        kl_NT = objective.kl(logp_NT, other_NT, mask_NT, objective.ratio.clamp)
        loss = loss + objective.kl.coefficient * objective.aggregation.mean(kl_NT, mask_NT, totals)
    record = TokenRecord(
        log_ratio_NT=log_ratio_NT.detach(),
        slope_NT=found.slope_NT,
        coefficient_NT=objective.coefficient(found, log_ratio_NT.detach(), mask_NT),
        clipped_NT=found.clipped_NT,
        entropy_NT=torch.zeros_like(log_ratio_NT.detach()) if entropy_NT is None else entropy_NT,
        correction_NT=correction_NT,
        kl_NT=kl_NT.detach(),
        mask_NT=mask_NT,
        advantage_N=advantage_N,
    )
    return loss, record
