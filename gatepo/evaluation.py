"""Accuracy on held-out sets during and after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatepo.distributed import World
from gatepo.rewards.base import RewardFunction
from gatepo.rollout.base import RolloutEngine
from gatepo.types import Prompt, Sampling

SEED_OFFSET = 1 << 32  # evaluation draws from other streams than training, the same ones every time


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """One sampled completion per problem (section 5.1: temperature 0.7)."""

    sets: dict[str, list[Prompt]]
    sampling: Sampling  # with num_generations = 1
    reward: RewardFunction
    rollout: RolloutEngine
    seed: int
    world: World

    def __call__(self, progress: Callable[[str], None] = lambda name: None) -> dict[str, float]:
        """The fraction of right answers (eq. 11) of each set under the sampler's current weights."""
        accuracy = {}
        for name, prompts in self.sets.items():
            progress(name)
            groups = self.rollout.generate(self.world.share(prompts), self.sampling, SEED_OFFSET + self.seed)
            right = sum(reward.parts["answer"] for row in self.reward(groups) for reward in row)
            accuracy[name] = self.world.sum(right)[0] / len(prompts)
        return accuracy
