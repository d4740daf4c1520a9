"""What an update did, computed from the records of its tokens.

Axes: N completions of the whole update, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from gatepo.objective.surrogate import TokenRecord

if TYPE_CHECKING:
    from torch import Tensor

BANDS = (0.01, 0.05, 0.2, 1.0)  # edges of |log r|, nats


def effective_update_ratio(slope_NT: Tensor, mask_NT: Tensor, group_N: Tensor) -> Tensor:
    """Average the gate's slope over each prompt's tokens, then over prompts (EUR).

    EUR = 1/B sum_i [ 1/sum_j |o_j| sum_jk f'(r_jk) ]

    Args:
      slope_NT: f'(r) per token, dimensionless.
      mask_NT: True on completion tokens; prompt and padding never count.
      group_N: index of the prompt that each completion answers. Prompts without any token are left out.
    Returns: scalar, in [0, 1] where the slope is; 1 then means that every token updates fully. NaN if there is no token
      at all.
    Source: the paper, eq. 12. For ``clip`` it is 1 - clip_ratio of each prompt, averaged over prompts.

    >>> slope, mask = torch.tensor([[1.0, 0.5], [0.0, 9.0]]), torch.tensor([[True, True], [True, False]])
    >>> effective_update_ratio(slope, mask, group_N=torch.tensor([0, 1])).item()  # (0.75 + 0) / 2
    0.375
    """
    _, group_N = torch.unique(group_N, return_inverse=True)
    prompts = int(group_N.max()) + 1 if len(group_N) else 0
    zeros_P = slope_NT.new_zeros(prompts, dtype=torch.float64)
    slopes_P = zeros_P.index_add(0, group_N, (slope_NT * mask_NT).sum(dim=1, dtype=torch.float64))
    tokens_P = zeros_P.index_add(0, group_N, mask_NT.sum(dim=1).double())
    return (slopes_P / tokens_P)[tokens_P > 0].mean()


def passed(slope_NT: Tensor) -> Tensor:
    """Give the share of each token's gradient that the gate lets through, in [0, 1] for every gate.

    Without a gate a token's gradient is r A grad log pi; the gate makes it f'(r) times that (eq. 4). A slope above 1
    lets all of it through, and adds to it; one below 0 lets nothing through, and turns it round. Where slopes are in
    [0, 1], as all of the paper's are, the share is the slope, and its mean (``eur/passed``) is EUR.

    >>> passed(torch.tensor([-0.5, 0.0, 0.4, 1.0, 173.0]))
    tensor([0.0000, 0.0000, 0.4000, 1.0000, 1.0000])
    """
    return slope_NT.clamp(0, 1)


def join(records: Sequence[TokenRecord]) -> TokenRecord:
    """Join the records of several micro-batches or devices, padded on the right to a common length."""
    width = max(record.mask_NT.shape[1] for record in records)

    def joined(name: str) -> Tensor:
        parts = [getattr(record, name) for record in records]
        return torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1])) if p.dim() == 2 else p for p in parts])

    return TokenRecord(**{field.name: joined(field.name) for field in fields(TokenRecord)})


def token_metrics(record: TokenRecord, group_N: Tensor, iteration: int, clamp: float) -> dict[str, float]:
    """Compute the logged figures of one update; keys as in docs/metrics.md.

    Args:
      record: the tokens of the whole update.
      group_N: index of the prompt that each completion answers.
      iteration: which pass over the rollout batch this was, from 1.
      clamp: the bound of the log-ratio, nats.

    >>> record = TokenRecord(
    ...     **{f"{name}_NT": torch.zeros(2, 3) for name in ("log_ratio", "entropy", "kl")},
    ...     **{f"{name}_NT": torch.ones(2, 3) for name in ("slope", "coefficient", "correction")},
    ...     clipped_NT=torch.zeros(2, 3).bool(),
    ...     mask_NT=torch.ones(2, 3).bool(),
    ...     advantage_N=torch.tensor([1.0, -1.0]),
    ... )
    >>> token_metrics(record, torch.tensor([0, 0]), iteration=1, clamp=20.0)["eur/iteration_1"]
    1.0
    """
    mask_NT, slope_NT = record.mask_NT, record.slope_NT
    log_ratio_M, slope_M = record.log_ratio_NT[mask_NT], slope_NT[mask_NT]
    ratio_M = log_ratio_M.exp()
    positive_N = record.advantage_N > 0
    eur = effective_update_ratio(slope_NT, mask_NT, group_N).item()
    low, high = torch.quantile(ratio_M[:: _stride(ratio_M)], ratio_M.new_tensor([0.01, 0.99])).tolist()
    clipped_M = record.clipped_NT[mask_NT]
    weight_M = record.correction_NT[mask_NT]
    coefficient_M = record.coefficient_NT[mask_NT]
    weighted_M = coefficient_M * weight_M
    advantage_M = record.advantage_N[:, None].expand_as(mask_NT)[mask_NT]
    metrics = {
        "entropy": record.entropy_NT[mask_NT].mean().item(),
        "eur": eur,
        f"eur/iteration_{iteration}": eur,
        "eur/passed": effective_update_ratio(passed(slope_NT), mask_NT, group_N).item(),
        "eur/token_mean": slope_M.mean().item(),
        "coefficient/mean": coefficient_M.mean().item(),
        "coefficient/ess": effective_sample_size(weighted_M).item(),
        **gradient_shares(log_ratio_M, (advantage_M * weighted_M).abs()),
        **tails((advantage_M * weighted_M)[advantage_M != 0]),
        "kl/sampling": (ratio_M - 1 - log_ratio_M).mean().item(),  # k3 of KL(pi_old || pi_theta)
        "ratio/mean": ratio_M.mean().item(),
        "ratio/min": ratio_M.min().item(),
        "ratio/max": ratio_M.max().item(),
        "ratio/p01": low,
        "ratio/p99": high,
        "ratio/clamped_frac": (log_ratio_M.abs() >= clamp).float().mean().item(),
        "correction/mean": weight_M.mean().item(),
        "correction/zero_frac": (weight_M == 0).float().mean().item(),
        "clip_ratio/low_mean": (clipped_M & (log_ratio_M < 0)).float().mean().item(),
        "clip_ratio/high_mean": (clipped_M & (log_ratio_M > 0)).float().mean().item(),
        "clip_ratio/region_mean": clipped_M.float().mean().item(),
    }
    for sign, chosen_N in (("positive", positive_N), ("negative", record.advantage_N < 0)):
        if chosen_N.any():
            part = effective_update_ratio(slope_NT[chosen_N], mask_NT[chosen_N], group_N[chosen_N])
            metrics[f"eur/{sign}"] = part.item()
    return metrics


def effective_sample_size(weight_M: Tensor) -> Tensor:
    """Compute (sum w)^2 / (M sum w^2), in (0, 1]: 1 for equal weights, 1/M for one token alone (Kish 1965)."""
    weight_M = weight_M.double()
    return weight_M.sum() ** 2 / (len(weight_M) * (weight_M**2).sum().clamp(min=1e-300))


def gradient_shares(log_ratio_M: Tensor, size_M: Tensor) -> dict[str, float]:
    """Say which part of sum |A c| comes from tokens in each band of |log r|, nats; the shares sum to 1.

    Args:
      log_ratio_M: log r of each token.
      size_M: |A| c of each token, the size of its factor of grad log pi (eq. 4).
    """
    edges = torch.tensor(BANDS, dtype=log_ratio_M.dtype, device=log_ratio_M.device)
    band_M = torch.bucketize(log_ratio_M.abs(), edges)
    size_B = torch.zeros(len(BANDS) + 1, dtype=torch.float64, device=size_M.device).index_add(
        0, band_M, size_M.double()
    )
    share_B = size_B / size_B.sum().clamp(min=1e-300)
    names = (*(f"below_{edge}" for edge in BANDS), f"above_{BANDS[-1]}")
    return {f"gradient_share/{name}": share for name, share in zip(names, share_B.tolist(), strict=True)}


def tails(factor_M: Tensor) -> dict[str, float]:
    """Say how heavy the tails of A c are, over tokens with A != 0; those that the gate takes out count as 0.

    ``gradient/kurtosis`` is E[x^4] / E[x^2]^2 about 0 (3 for a normal distribution); ``gradient/tail_index`` is Hill's
    estimate of alpha in P(|x| > t) ~ t^-alpha from the largest twentieth: below 4 the fourth moment is infinite, below
    2 the variance. Left out where fewer than 40 tokens count, or all of the largest are equal, or one is 0.

    Source: the view of Garg et al., arXiv:2102.10264, on PPO's gradients; Hill 1975.
    """
    size_M = factor_M.double().abs()
    if len(size_M) < 40 or not size_M.any():
        return {}
    kurtosis = {"gradient/kurtosis": ((size_M**4).mean() / (size_M**2).mean() ** 2).item()}
    largest_K = size_M.topk(len(size_M) // 20 + 1).values
    if largest_K[-1] == 0:
        return kurtosis
    spacing = torch.log(largest_K[:-1] / largest_K[-1]).mean().item()
    return kurtosis if spacing == 0 else kurtosis | {"gradient/tail_index": 1 / spacing}


def _stride(values_M: Tensor, most: int = 1_000_000) -> int:
    """Keep every k-th value so that ``torch.quantile`` (at most 16M elements) stays cheap."""
    return -(-len(values_M) // most)
