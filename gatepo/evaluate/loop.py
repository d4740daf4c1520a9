"""Sampling and grading held-out problems, for the command and during training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatepo.rewards.base import RewardFunction
from gatepo.rollout.base import RolloutEngine
from gatepo.types import Group, Prompt, Reward, Sampling
from gatepo.world import World

SEED_OFFSET = 1 << 32  # evaluation draws from other streams than training, the same ones every time


def sample_and_grade(
    rollout: RolloutEngine, reward: RewardFunction, prompts: list[Prompt], sampling: Sampling, seed: int
) -> list[tuple[Group, list[Reward]]]:
    """Sample completions of each problem and grade them, in the problems' order.

    A completion depends on the weights, ``seed``, its problem and its number among the problem's completions, not on
    what else is sampled with it.
    """
    groups = rollout.generate(prompts, sampling, SEED_OFFSET + seed)
    return list(zip(groups, reward(groups), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """One sampled completion per problem (section 5.1: temperature 0.7), before, during and after training."""

    sets: dict[str, list[Prompt]]
    sampling: Sampling  # with num_generations = 1
    reward: RewardFunction
    rollout: RolloutEngine
    seed: int
    world: World

    def __call__(self, progress: Callable[[str], None] = lambda name: None) -> dict[str, float]:
        """Measure the fraction of right answers (eq. 11) of each set under the sampler's current weights."""
        accuracy = {}
        for name, prompts in self.sets.items():
            progress(name)
            share = self.world.share(prompts)
            with self.world.together():
                own = sample_and_grade(self.rollout, self.reward, share, self.sampling, self.seed)
            right = sum(reward.score for _, rewards in own for reward in rewards)
            accuracy[name] = self.world.sum(right)[0] / len(prompts)
        return accuracy
