"""Advantages of rewards, by hand."""

import math

import pytest
import torch

from gatepo.objective.advantage import BatchZScore, BatchZScoreWithBaseline, GroupCenter, GroupZScore, MaxRl, Rloo


def test_zscore_worked_by_hand() -> None:
    # mean 1, deviations -1 0 1, sample standard deviation 1: A = -1, 0, 1 over 1 + 1e-4
    got = GroupZScore()(torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    torch.testing.assert_close(got, torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]) / 1.0001)


def test_zscore_with_the_population_deviation() -> None:
    # deviations -1 0 1, population standard deviation sqrt(2/3)
    got = GroupZScore(eps=0.0, ddof=0)(torch.tensor([[0.0, 1.0, 2.0]]))
    torch.testing.assert_close(got, torch.tensor([[-1.0, 0.0, 1.0]]) * math.sqrt(1.5))


def test_advantages_worked_by_hand() -> None:
    reward = torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 6.0]])
    # group means 1 and 4
    assert GroupCenter()(reward).tolist() == [[-1, 0, 1], [-1, -1, 2]]
    # minus the mean of the two others: 0 - 1.5, 1 - 1, 2 - 0.5; 3 - 4.5, 3 - 4.5, 6 - 3
    torch.testing.assert_close(Rloo()(reward), torch.tensor([[-1.5, 0.0, 1.5], [-1.5, -1.5, 3.0]]))
    # by the group means
    torch.testing.assert_close(MaxRl(eps=0.0)(reward), torch.tensor([[-1.0, 0.0, 1.0], [-0.25, -0.25, 0.5]]))
    # batch mean 2.5, deviations -2.5 -1.5 -0.5 0.5 0.5 3.5, squares sum to 21.5, std sqrt(4.3)
    wanted = torch.tensor([[-2.5, -1.5, -0.5], [0.5, 0.5, 3.5]]) / math.sqrt(4.3)
    torch.testing.assert_close(BatchZScore(eps=0.0)(reward), wanted)
    # centred rewards: mean 0, squares 1 + 0 + 1 + 1 + 1 + 4 = 8, std sqrt(8 / 5)
    wanted = torch.tensor([[-1.0, 0.0, 1.0], [-1.0, -1.0, 2.0]]) / math.sqrt(1.6)
    torch.testing.assert_close(BatchZScoreWithBaseline(eps=0.0)(reward), wanted)


def test_equal_rewards_give_an_advantage_of_exactly_zero() -> None:
    """The mean of six times 0.3 is not 0.3 in fp32."""
    reward = torch.full((3, 6), 0.3)
    reward[1], reward[2, 0] = 1.3, 0.0
    assert (reward[0] - reward[0].mean() != 0).any()
    for advantage in (GroupZScore(), GroupCenter(), Rloo(), MaxRl()):
        got = advantage(reward)
        assert not got[:2].any()
        assert got[2].all()


@pytest.mark.parametrize("advantage", [BatchZScore, BatchZScoreWithBaseline])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_a_batch_of_equal_rewards_has_an_advantage_of_exactly_zero(advantage, eps: float) -> None:
    for reward in (1.3, 0.7, -1.1):
        for groups in (1, 4, 16):
            assert not advantage(eps=eps)(torch.full((groups, 8), reward)).any()


def test_with_a_baseline_a_group_of_equal_rewards_has_an_advantage_of_exactly_zero() -> None:
    reward = torch.tensor([[1.3, 0.2, 0.7, 0.7], [1.3, 1.3, 1.3, 1.3], [0.1, 0.1, 2.0, 0.3]])
    found = BatchZScoreWithBaseline()(reward)
    assert not found[1].any()
    assert found[0].any() and found[2].any()
