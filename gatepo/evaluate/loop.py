"""Sampling and grading held-out problems, for the command and during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


class Progress(Protocol):
    """Who is interested in how far an evaluation is."""

    def begin(self, problems: int, own: int) -> None:
        """Begin with so many problems, of which this rank has its ``own``."""
        ...

    def done(self, problems: int) -> None:
        """Count so many more."""
        ...

    def end(self, score: dict[str, float]) -> None:
        """Take what came out: the accuracy of each set, or the mean of a reward without an answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Sampled completions of each problem (section 5.1: temperature 0.7), before, during and after training."""

    sets: dict[str, list[Prompt]]
    sampling: Sampling  # num_generations of it per problem
    reward: RewardFunction
    rollout: RolloutEngine
    seed: int
    world: World
    at_once: int  # problems in one call of the sampler
    progress: Progress | None = None

    def __call__(self) -> dict[str, float]:
        """Measure each set under the sampler's current weights.

        Returns: the fraction of right answers (eq. 11), or the mean of a reward that grades none.
        """
        score = {}
        if self.progress is not None:
            own = sum(len(self.world.share(prompts)) for prompts in self.sets.values())
            self.progress.begin(sum(map(len, self.sets.values())), own)
        for name, prompts in self.sets.items():
            total = 0.0
            with self.world.together():
                total = self._total(self.world.share(prompts))
            score[name] = self.world.sum(total)[0] / (len(prompts) * self.sampling.num_generations)
        if self.progress is not None:
            self.progress.end(score)
        return score

    def _total(self, prompts: list[Prompt]) -> float:
        total = 0.0
        for first in range(0, len(prompts), self.at_once):
            share = prompts[first : first + self.at_once]
            own = sample_and_grade(self.rollout, self.reward, share, self.sampling, self.seed)
            total += sum(reward.score for _, rewards in own for reward in rewards)
            if self.progress is not None:
                self.progress.done(len(share))
        return total
