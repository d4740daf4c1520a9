"""Readings of several objectives on one stored rollout batch.

Axes: N completions of one prompt's group, T tokens, D parameters of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.telemetry import effective_update_ratio, join, passed
from gatepo.types import TokenBatch

Policy = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (ids, completion mask) -> (log-probability, entropy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one objective makes of a rollout batch."""

    record: TokenRecord
    group_N: Tensor
    grad_norm: float  # of the loss (eq. 2), as an update would have seen it, before clipping
    spread: float  # mean over groups of |P g_p - g|^2, g_p being a group's share of the gradient g

    def figures(self) -> dict[str, float]:
        """Give EUR (eq. 12; by sign of A), the share passed, coefficient, size and noise of the gradient."""
        record, mask_NT = self.record, self.record.mask_NT
        coefficient_M = record.coefficient_NT[mask_NT]
        found = {
            "eur": effective_update_ratio(record.slope_NT, mask_NT, self.group_N).item(),
            "eur/passed": effective_update_ratio(passed(record.slope_NT), mask_NT, self.group_N).item(),
        }
        signs = {"eur/positive": record.advantage_N > 0, "eur/negative": record.advantage_N < 0}
        for name, chosen_N in signs.items():
            if chosen_N.any():
                part = effective_update_ratio(record.slope_NT[chosen_N], mask_NT[chosen_N], self.group_N[chosen_N])
                found[name] = part.item()
        return found | {
            "coefficient/mean": coefficient_M.mean().item(),
            "coefficient/max": coefficient_M.max().item(),
            "grad_norm": self.grad_norm,
            "noise_over_signal": self.spread / (self.grad_norm**2 * len(torch.unique(self.group_N)))
            if self.grad_norm
            else float("nan"),
        }


def measure(
    policy: Policy,
    parameters: list[Tensor],
    batch: TokenBatch,
    anchor_NT: Tensor,
    totals: Totals,
    objectives: dict[str, Objective],
) -> tuple[dict[str, Reading], Tensor]:
    """Run every group once forward, and once backward for each objective that learns from it.

    Args:
      policy: under the weights of the checkpoint; the gradient flows through its log-probability.
      parameters: of the policy; each objective's gradient is kept whole on the CPU, fp32, until this returns.
      batch: the stored completions.
      anchor_NT: log pi_old of their tokens, [N, T - 1], nats.
      totals: denominators of the whole update.
      objectives: by the name under which their readings come back.
    Returns: the readings, and the cosines between the objectives' gradients, [K, K], in their order.
    """
    size = sum(p.numel() for p in parameters)
    gradient = {name: torch.zeros(size) for name in objectives}
    squares = dict.fromkeys(objectives, 0.0)
    records: dict[str, list[TokenRecord]] = {name: [] for name in objectives}
    groups = torch.unique(batch.group_N)
    for group in groups:
        rows_N = (batch.group_N == group).nonzero().squeeze(1)
        cut = batch.rows(rows_N)
        logp_NT, entropy_NT = policy(cut.ids_NT, cut.completion_NT)
        for name, objective in objectives.items():
            loss, record = policy_loss(
                objective,
                logp_NT=logp_NT,
                anchor_NT=anchor_NT[rows_N, : logp_NT.shape[1]],
                sampler_NT=cut.sampler_logp_NT[:, 1:],
                reference_NT=cut.reference_logp_NT,
                entropy_NT=entropy_NT,
                advantage_N=cut.advantage_N,
                mask_NT=cut.completion_NT[:, 1:],
                totals=totals,
            )
            records[name].append(record.cpu())
            if objective.learns_from(cut.advantage_N).any():
                parts = torch.autograd.grad(loss, parameters, retain_graph=True)
                share_D = torch.cat([part.flatten().float().cpu() for part in parts])
                gradient[name] += share_D
                squares[name] += share_D.double().square().sum().item()
    order_N = torch.cat([batch.group_N[batch.group_N == group] for group in groups]).cpu()
    P = len(groups)
    dot_KK = dots(list(gradient.values()))
    readings = {
        name: Reading(
            record=join(records[name]),
            group_N=order_N,
            grad_norm=square**0.5,
            spread=P * squares[name] - square,
        )
        for name, square in zip(objectives, dot_KK.diagonal().tolist(), strict=True)
    }
    return readings, cosines(dot_KK)


def dots(gradients: list[Tensor], part: int = 1 << 22) -> Tensor:
    """Give inner products of each pair, [K, K], summed in float64 over parts so that no gradient is copied whole."""
    dot_KK = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for parts in zip(*(gradient.split(part) for gradient in gradients), strict=True):
        part_KD = torch.stack(parts).double()
        dot_KK += part_KD @ part_KD.T
    return dot_KK


def cosines(dot_KK: Tensor) -> Tensor:
    """Give cosine between each pair of gradients, [K, K], from their inner products; NaN where one is zero."""
    norm_K = dot_KK.diagonal().sqrt()
    return dot_KK / norm_K / norm_K[:, None]
