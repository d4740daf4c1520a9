"""Advantages from the rewards of a rollout batch.

Axes: P prompts of the whole rollout batch, over all devices, G completions of one prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Advantage(Protocol):
    """Rewards [P, G] to advantages [P, G]."""

    def __call__(self, reward_PG: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupZScore:
    """A = (R - mean(R)) / (std(R) + eps) within a group (below eq. 1).

    ``ddof`` = 1 (the sample's standard deviation) and ``eps`` = 1e-4 are what GRPO's common implementations use; the
    paper states neither. A group whose rewards are all equal has A = 0.
    """

    eps: float = 1e-4
    ddof: int = 1

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return _centred(reward_PG) / (reward_PG.std(dim=1, correction=self.ddof, keepdim=True) + self.eps)


@dataclass(frozen=True, slots=True)
class GroupCenter:
    """A = R - mean(R) within a group: no division, so easy and hard prompts weigh the same (Dr. GRPO, 2503.20783)."""

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return _centred(reward_PG)


@dataclass(frozen=True, slots=True)
class Rloo:
    """A = R - mean of the group's other rewards = G / (G - 1) (R - mean(R)) (Ahmadian et al., arXiv:2402.14740)."""

    def __call__(self, reward_PG: Tensor) -> Tensor:
        G = reward_PG.shape[1]
        return _centred(reward_PG) * (G / (G - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchZScore:
    """A = (B - mean(B)) / (std(B) + eps) over the whole rollout batch (REINFORCE++, arXiv:2501.03262).

    ``baseline``: B = R - mean of its group (REINFORCE++-baseline); else B = R. The papers' code weighs completions by
    their tokens in mean and std; here each completion counts once.
    """

    baseline: bool
    eps: float = 1e-4
    ddof: int = 1

    def __call__(self, reward_PG: Tensor) -> Tensor:
        value_PG = _centred(reward_PG) if self.baseline else reward_PG
        return (value_PG - value_PG.mean()) / (value_PG.std(correction=self.ddof) + self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxRl:
    """A = (R - mean(R)) / (mean(R) + eps) within a group, for rewards >= 0.

    For a 0-1 reward its expectation is the gradient of log p(right), to the order that G samples allow, instead of
    that of p(right): hard prompts weigh more.

    Source: Tajwar et al., *Maximum Likelihood Reinforcement Learning*, arXiv:2602.02710.
    """

    eps: float = 1e-4

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return _centred(reward_PG) / (reward_PG.mean(dim=1, keepdim=True) + self.eps)


def _centred(reward_PG: Tensor) -> Tensor:
    """R - mean(R) within a group; exactly 0 where all rewards are equal, which rounding in the mean may miss."""
    equal_P1 = reward_PG.amax(dim=1, keepdim=True) == reward_PG.amin(dim=1, keepdim=True)
    return (reward_PG - reward_PG.mean(dim=1, keepdim=True)).masked_fill(equal_P1, 0.0)
