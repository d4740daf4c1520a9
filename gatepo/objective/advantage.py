"""Advantages from the rewards of a rollout batch.

Axes: P prompts of the whole rollout batch, over all devices, G completions of one prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from gatepo.errors import TrainingStopped
from gatepo.settings import at_least, one_of, option, section, setting

if TYPE_CHECKING:
    from torch import Tensor


class Advantage(Protocol):
    """An advantage turns the rewards [P, G] of a rollout batch into A [P, G]."""

    def __call__(self, reward_PG: Tensor) -> Tensor: ...


@section("advantage")
class Divided:
    """What divides may be 0, and so something is added to it."""

    eps: float = setting("This is added to the denominator.", default=1e-4, rule=at_least(0))


@section("advantage")
class Standardised(Divided):
    """A standard deviation divides."""

    ddof: int = setting("Delta degrees of freedom of the standard deviation.", default=1, rule=one_of(0, 1))


@option("advantage", "group_zscore")
class GroupZScore(Standardised):
    """A = (R - mean(R)) / (std(R) + eps) within a group (below eq. 1).

    ``ddof`` = 1 (the sample's standard deviation) and ``eps`` = 1e-4 are what GRPO's common implementations use; the
    paper states neither. A group whose rewards are all equal has A = 0.

    >>> GroupZScore(eps=0.0)(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    tensor([[ 0.8660,  0.8660, -0.8660, -0.8660],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return _divided(_centred(reward_PG), reward_PG.std(dim=1, correction=self.ddof, keepdim=True) + self.eps)


@option("advantage", "group_center")
class GroupCenter:
    """A = R - mean(R) within a group: no division, so easy and hard prompts weigh the same (Dr. GRPO, 2503.20783).

    >>> GroupCenter()(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    tensor([[ 0.7500, -0.2500, -0.2500, -0.2500]])
    """

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return _centred(reward_PG)


@option("advantage", "rloo")
class Rloo:
    """A = R - mean of the group's other rewards = G / (G - 1) (R - mean(R)) (Ahmadian et al., arXiv:2402.14740).

    >>> Rloo()(torch.tensor([[1.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000, -0.5000]])
    """

    def __call__(self, reward_PG: Tensor) -> Tensor:
        G = reward_PG.shape[1]
        return _centred(reward_PG) * (G / (G - 1))


@option("advantage", "reinforce_pp")
class BatchZScore(Standardised):
    """A = (R - mean(R)) / (std(R) + eps) over the whole rollout batch (REINFORCE++, arXiv:2501.03262).

    The papers' code weighs completions by their tokens in mean and std; here each completion counts once. A batch whose
    rewards are all equal has A = 0.

    >>> BatchZScore(eps=0.0, ddof=0)(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    tensor([[ 1.,  1.],
            [-1., -1.]])
    """

    BASELINE: ClassVar[bool] = False  # whether the mean of its group is taken from each reward first

    def __call__(self, reward_PG: Tensor) -> Tensor:
        # With the baseline the batch's mean is 0 but for rounding, which would give a group of equal rewards an A.
        centred_PG = _centred(reward_PG if self.BASELINE else reward_PG.reshape(1, -1)).view_as(reward_PG)
        return _divided(centred_PG, centred_PG.std(correction=self.ddof) + self.eps)


@option("advantage", "reinforce_pp_baseline")
class BatchZScoreWithBaseline(BatchZScore):
    """As :class:`BatchZScore`, of rewards less the mean of their group (REINFORCE++-baseline).

    A group whose rewards are all equal has A = 0.

    >>> BatchZScoreWithBaseline(eps=0.0, ddof=0)(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """

    BASELINE: ClassVar[bool] = True


@option("advantage", "max_rl")
class MaxRl(Divided):
    """A = (R - mean(R)) / (mean(R) + eps) within a group, for rewards >= 0: else A could have the wrong sign.

    For a 0-1 reward its expectation is the gradient of log p(right), to the order that G samples allow, instead of
    that of p(right): hard prompts weigh more.

    Raises:
      TrainingStopped: a reward is negative.
    Source: Tajwar et al., *Maximum Likelihood Reinforcement Learning*, arXiv:2602.02710.

    >>> MaxRl(eps=0.0)(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    tensor([[ 3., -1., -1., -1.]])
    """

    def __call__(self, reward_PG: Tensor) -> Tensor:
        if (reward_PG < 0).any():
            raise TrainingStopped(
                "advantage=max_rl must have rewards >= 0, since it divides by their mean, got "
                f"{reward_PG.min().item():.4g}; leave out what is negative in reward.extra, or type advantage=rloo"
            )
        return _divided(_centred(reward_PG), reward_PG.mean(dim=1, keepdim=True) + self.eps)


def _centred(reward_PG: Tensor) -> Tensor:
    """Compute R - mean(R) within a group; exactly 0 where all are equal, which rounding in the mean may miss."""
    equal_P1 = reward_PG.amax(dim=1, keepdim=True) == reward_PG.amin(dim=1, keepdim=True)
    return (reward_PG - reward_PG.mean(dim=1, keepdim=True)).masked_fill(equal_P1, 0.0)


def _divided(centred_PG: Tensor, by: Tensor) -> Tensor:
    """Divide, with 0 where the dividend is 0: with eps = 0 a group of equal rewards would give 0 / 0."""
    return (centred_PG / by).masked_fill(centred_PG == 0, 0.0)
