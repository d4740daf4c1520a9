"""The surrogate loss: ratio, gate, tau and aggregation put together (eq. 2).

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from gatepo.objective.aggregation import Aggregation, Totals
from gatepo.objective.correction import Correction, NoCorrection
from gatepo.objective.gates import Gate
from gatepo.objective.kl import KlPenalty
from gatepo.objective.ratio import Ratio
from gatepo.objective.tau import Tau, tau_by_sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One choice on each axis; together they are a method."""

    gate: Gate
    tau: Tau
    ratio: Ratio
    aggregation: Aggregation
    correction: Correction = field(default_factory=NoCorrection)
    kl: KlPenalty | None = None
    anchor: str = "old"  # what the ratio divides by: "old", the trainer's log pi_old, or "rollout", the sampler's

    def learns_from(self, advantage_N: Tensor) -> Tensor:
        """Which completions add anything to the gradient: those with A != 0 (eq. 4), all under a KL penalty.

        All count in the telemetry.
        """
        return advantage_N != 0 if self.kl is None else torch.ones_like(advantage_N, dtype=torch.bool)

    def slope(self, logp_NT: Tensor, anchor_NT: Tensor, advantage_N: Tensor, mask_NT: Tensor) -> Tensor:
        """f'(r) of every token, [N, T], without gradient; arguments as in :func:`policy_loss`."""
        with torch.no_grad():
            ratio_NT = self.ratio(logp_NT, anchor_NT, mask_NT).exp()
            tau_N1 = tau_by_sign(advantage_N, self.tau)[:, None]
            return self.gate.slope(ratio_NT, tau_N1, (advantage_N > 0)[:, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What each completion token contributed, detached; raw material of the telemetry. All [N, T] but the advantage."""

    log_ratio_NT: Tensor
    slope_NT: Tensor
    entropy_NT: Tensor
    correction_NT: Tensor
    kl_NT: Tensor
    mask_NT: Tensor
    advantage_N: Tensor

    def rows(self, index_N: Tensor) -> TokenRecord:
        """The named completions, in this order."""
        return TokenRecord(**{f.name: getattr(self, f.name)[index_N] for f in fields(self)})

    def cpu(self) -> TokenRecord:
        """On the CPU."""
        return TokenRecord(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})


def policy_loss(
    objective: Objective,
    *,
    logp_NT: Tensor,
    anchor_NT: Tensor,
    sampler_NT: Tensor,
    reference_NT: Tensor | None = None,
    entropy_NT: Tensor,
    advantage_N: Tensor,
    mask_NT: Tensor,
    totals: Totals,
) -> tuple[Tensor, TokenRecord]:
    """This micro-batch's share of -J(theta) (eq. 2) and of its KL penalty, and the record of its tokens.

    The gate is logged as f(r) - f(1) + 1, so that all families pass through (1, 1) as in Figure 1 and their losses can
    be compared; eq. 3 alone has f(1) = 2 / tau. The gradient is the same.

    Args:
      logp_NT: log pi_theta of the sampled tokens, nats; the gradient flows through it.
      anchor_NT: log pi_old of the same tokens, nats, no gradient.
      sampler_NT: log-probability by the sampler, nats, for the correction of its mismatch.
      reference_NT: log-probability by the untrained model, nats, for a KL penalty on the divergence from it.
      entropy_NT: policy entropy at each token, nats, no gradient; only recorded.
      advantage_N: one advantage per completion.
      mask_NT: True on completion tokens.
      totals: the whole update's denominators.
    Returns: the scalar loss and a :class:`TokenRecord`.
    """
    log_ratio_NT = objective.ratio(logp_NT, anchor_NT, mask_NT)
    ratio_NT = log_ratio_NT.exp()
    tau_N1 = tau_by_sign(advantage_N, objective.tau)[:, None]
    positive_N1 = (advantage_N > 0)[:, None]
    at_one_N1 = objective.gate.value(torch.ones_like(tau_N1), tau_N1, positive_N1)
    # f(1) - 1 first: with f(r) + 1 in between, fp32 would make 0 of the clip's f(r) = r below 6e-8, and GMPO's log NaN.
    value_NT = objective.gate.value(ratio_NT, tau_N1, positive_N1) - (at_one_N1 - 1)
    with torch.no_grad():
        correction_NT = objective.correction(anchor_NT, sampler_NT, mask_NT)
        slope_NT = objective.gate.slope(ratio_NT, tau_N1, positive_N1)
    loss = -objective.aggregation(value_NT, correction_NT * advantage_N[:, None], mask_NT, totals)
    kl_NT = torch.zeros_like(log_ratio_NT)
    if objective.kl is not None:
        other_NT = anchor_NT if objective.kl.reference == "sampling" else reference_NT
        assert other_NT is not None, "a KL penalty on the initial policy needs its log-probabilities"
        kl_NT = objective.kl(logp_NT, other_NT, mask_NT)
        loss = loss + objective.kl.coefficient * objective.aggregation.mean(kl_NT, mask_NT, totals)
    record = TokenRecord(
        log_ratio_NT=log_ratio_NT.detach(),
        slope_NT=slope_NT,
        entropy_NT=entropy_NT,
        correction_NT=correction_NT,
        kl_NT=kl_NT.detach(),
        mask_NT=mask_NT,
        advantage_N=advantage_N,
    )
    return loss, record
