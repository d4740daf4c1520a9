"""What an update did, computed from the records of its tokens.

Axes: N completions of the whole update, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from gatepo.objective.surrogate import TokenRecord


def effective_update_ratio(slope_NT: Tensor, mask_NT: Tensor, group_N: Tensor) -> Tensor:
    """Mean gate slope of each prompt's tokens, averaged over prompts (EUR).

    EUR = 1/B sum_i [ 1/sum_j |o_j| sum_jk f'(r_jk) ]

    Args:
      slope_NT: f'(r) per token, dimensionless.
      mask_NT: True on completion tokens; prompt and padding never count.
      group_N: index of the prompt that each completion answers. Prompts without any token are left out.
    Returns: scalar in [0, 1]; 1 means that every token updates fully. NaN if there is no token at all.
    Source: the paper, eq. 12. For clipping it is 1 - clip_ratio.
    """
    _, group_N = torch.unique(group_N, return_inverse=True)
    prompts = int(group_N.max()) + 1 if len(group_N) else 0
    zeros_P = slope_NT.new_zeros(prompts, dtype=torch.float64)
    slopes_P = zeros_P.index_add(0, group_N, (slope_NT * mask_NT).sum(dim=1, dtype=torch.float64))
    tokens_P = zeros_P.index_add(0, group_N, mask_NT.sum(dim=1).double())
    return (slopes_P / tokens_P)[tokens_P > 0].mean()


def join(records: Sequence[TokenRecord]) -> TokenRecord:
    """The records of several micro-batches or devices as one, padded on the right to a common length."""
    width = max(record.mask_NT.shape[1] for record in records)

    def joined(name: str) -> Tensor:
        parts = [getattr(record, name) for record in records]
        return torch.cat([pad(p, (0, width - p.shape[1])) if p.dim() == 2 else p for p in parts])

    return TokenRecord(**{field.name: joined(field.name) for field in fields(TokenRecord)})


def token_metrics(record: TokenRecord, group_N: Tensor, iteration: int, clamp: float) -> dict[str, float]:
    """The logged figures of one update; keys as in the README's table of metrics.

    Args:
      record: the tokens of the whole update.
      group_N: index of the prompt that each completion answers.
      iteration: which pass over the rollout batch this was, from 1.
      clamp: the bound of the log-ratio, nats.
    """
    mask_NT, slope_NT = record.mask_NT, record.slope_NT
    log_ratio_M, slope_M = record.log_ratio_NT[mask_NT], slope_NT[mask_NT]
    ratio_M = log_ratio_M.exp()
    positive_N = record.advantage_N > 0
    eur = effective_update_ratio(slope_NT, mask_NT, group_N).item()
    low, high = torch.quantile(ratio_M[:: _stride(ratio_M)], ratio_M.new_tensor([0.01, 0.99])).tolist()
    damped_M = slope_M < 0.5  # for `clip` the clipped tokens, for a smooth gate those beyond its half-width
    weight_M = record.correction_NT[mask_NT]
    metrics = {
        "entropy": record.entropy_NT[mask_NT].mean().item(),
        "eur": eur,
        f"eur/iteration_{iteration}": eur,
        "eur/token_mean": slope_M.mean().item(),
        "coefficient/mean": (ratio_M * slope_M).mean().item(),
        "ratio/mean": ratio_M.mean().item(),
        "ratio/min": ratio_M.min().item(),
        "ratio/max": ratio_M.max().item(),
        "ratio/p01": low,
        "ratio/p99": high,
        "ratio/clamped_frac": (log_ratio_M.abs() >= clamp).float().mean().item(),
        "correction/mean": weight_M.mean().item(),
        "correction/zero_frac": (weight_M == 0).float().mean().item(),
        "clip_ratio/low_mean": (damped_M & (log_ratio_M < 0)).float().mean().item(),
        "clip_ratio/high_mean": (damped_M & (log_ratio_M > 0)).float().mean().item(),
        "clip_ratio/region_mean": damped_M.float().mean().item(),
    }
    for sign, chosen_N in (("positive", positive_N), ("negative", record.advantage_N < 0)):
        if chosen_N.any():
            part = effective_update_ratio(slope_NT[chosen_N], mask_NT[chosen_N], group_N[chosen_N])
            metrics[f"eur/{sign}"] = part.item()
    return metrics


def _stride(values_M: Tensor, most: int = 1_000_000) -> int:
    """Keep every k-th value so that ``torch.quantile`` (at most 16M elements) stays cheap."""
    return -(-len(values_M) // most)
