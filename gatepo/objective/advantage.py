"""Advantages from the rewards of a group.

Axes: P prompts, G completions of one prompt.
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
        centred = reward_PG - reward_PG.mean(dim=1, keepdim=True)
        return centred / (reward_PG.std(dim=1, correction=self.ddof, keepdim=True) + self.eps)
