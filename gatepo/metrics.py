"""Figures of a rollout batch, under the names that the field already reads.

Axes: P prompts, G completions of one prompt, N = P * G.
"""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor

from gatepo.types import Group, Reward


def rollout_metrics(groups: list[Group], rewards: list[list[Reward]]) -> dict[str, float]:
    """Rewards and lengths. ``reward_std`` is the mean over groups of the standard deviation within a group."""
    completions = [c for group in groups for c in group.completions]
    scored = [reward for row in rewards for reward in row]
    lengths = [len(c.token_ids) for c in completions]
    reward_PG = torch.tensor([[reward.total for reward in row] for row in rewards])
    std_P = reward_PG.std(dim=1)
    return {
        "reward": reward_PG.mean().item(),
        "reward_std": std_P.mean().item(),
        "frac_reward_zero_std": (reward_PG.amax(dim=1) == reward_PG.amin(dim=1)).float().mean().item(),
        **{f"rewards/{part}/mean": fmean(r.parts[part] for r in scored) for part in scored[0].parts},
        "reward/timeout_frac": fmean(r.timed_out for r in scored),
        "reward/killed": sum(r.killed for r in scored),
        "prompts/mean_length": fmean(len(group.prompt.token_ids) for group in groups),
        "prompts/truncated_ratio": fmean(group.prompt.truncated for group in groups),
        "completions/mean_length": fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": fmean(not c.finished for c in completions),
    }


def mismatch_metrics(difference_M: Tensor) -> dict[str, float]:
    """How far the trainer's log-probabilities are from the sampler's under the same weights, nats per token."""
    return {
        "sampling/sampling_logp_difference/mean": difference_M.abs().mean().item(),
        "sampling/sampling_logp_difference/max": difference_M.abs().max().item(),
        "sampling/importance_sampling_ratio/mean": difference_M.exp().mean().item(),
        "sampling/importance_sampling_ratio/max": difference_M.exp().max().item(),
    }


def readable_samples(group: Group, rewards: list[Reward]) -> list[dict[str, object]]:
    """One group as rows for ``completions.jsonl``."""
    return [
        {
            "source": group.prompt.source,
            "question": group.prompt.question,
            "gold": group.prompt.answer,
            "completion": completion.text,
            "finished": completion.finished,
            "reward": reward.total,
            "rewards": reward.parts,
        }
        for completion, reward in zip(group.completions, rewards, strict=True)
    ]
