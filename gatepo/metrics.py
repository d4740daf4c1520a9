"""Figures of a rollout batch, under the names that the field already reads.

Axes: P prompts, G completions of one prompt, N = P * G.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from gatepo.types import Group, Reward


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """What the metrics of a rollout batch need of a group: little enough to travel between devices."""

    rewards: list[Reward]
    prompt_length: int  # tokens
    truncated: bool  # whether the prompt was cut
    lengths: list[int]  # of the completions, tokens
    finished: list[bool]  # whether each completion ended by itself


def figures_of(group: Group, rewards: list[Reward]) -> GroupFigures:
    """Take the figures of a scored group."""
    return GroupFigures(
        rewards=rewards,
        prompt_length=len(group.prompt.token_ids),
        truncated=group.prompt.truncated,
        lengths=[len(completion.token_ids) for completion in group.completions],
        finished=[completion.finished for completion in group.completions],
    )


def rollout_metrics(groups: list[GroupFigures]) -> dict[str, float]:
    """Compute rewards and lengths. ``reward_std`` is the mean over groups of the standard deviation within a group."""
    scored = [reward for group in groups for reward in group.rewards]
    lengths = [length for group in groups for length in group.lengths]
    reward_PG = torch.tensor([[reward.total for reward in group.rewards] for group in groups])
    std_P = reward_PG.std(dim=1)
    return {
        "reward": reward_PG.mean().item(),
        "reward_std": std_P.mean().item(),
        "frac_reward_zero_std": (reward_PG.amax(dim=1) == reward_PG.amin(dim=1)).float().mean().item(),
        **{f"rewards/{part}/mean": fmean(scores) for part, scores in _by_part(scored).items()},
        "reward/timeout_frac": fmean(r.timed_out for r in scored),
        "reward/killed": sum(r.killed for r in scored),
        "prompts/mean_length": fmean(group.prompt_length for group in groups),
        "prompts/truncated_ratio": fmean(group.truncated for group in groups),
        "completions/mean_length": fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": fmean(not finished for group in groups for finished in group.finished),
    }


def _by_part(scored: list[Reward]) -> dict[str, list[float]]:
    """Give each part's scores, of the completions to which it applies."""
    found: dict[str, list[float]] = {}
    for reward in scored:
        for part, score in reward.parts.items():
            found.setdefault(part, []).append(score)
    return found


def mismatch_metrics(difference_M: Tensor) -> dict[str, float]:
    """Say how far the trainer's log-probabilities are from the sampler's under the same weights, nats per token."""
    return {
        "sampling/sampling_logp_difference/mean": difference_M.abs().mean().item(),
        "sampling/sampling_logp_difference/max": difference_M.abs().max().item(),
        "sampling/importance_sampling_ratio/mean": difference_M.exp().mean().item(),
        "sampling/importance_sampling_ratio/max": difference_M.exp().max().item(),
    }


def readable_samples(group: Group, rewards: list[Reward]) -> list[dict[str, object]]:
    """Give one group as rows for ``completions.jsonl``."""
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
