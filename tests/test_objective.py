"""Ratio, tau, aggregation and surrogate loss."""

import math

import pytest
import torch
from objective_case import PAPER, Case, objective
from torch import Tensor

from gatepo.objective import gates
from gatepo.objective.aggregation import Constant, GeometricMean, SequenceMean, SequenceSum, TokenMean, Totals
from gatepo.objective.ratio import SequenceProductRatio, SequenceRatio, SequenceTokenRatio, TokenRatio
from gatepo.objective.surrogate import Objective, policy_loss
from gatepo.objective.tau import ConstantTau, tau_by_sign
from gatepo.objective.telemetry import effective_update_ratio

RATIOS = {
    ("mean", False): SequenceRatio,
    ("mean", True): SequenceTokenRatio,
    ("sum", True): SequenceProductRatio,
}


def test_ratio_is_masked_before_it_is_clamped() -> None:
    logp = torch.tensor([[0.0, 100.0, -100.0, math.nan, math.inf]])
    mask = torch.tensor([[True, True, True, False, False]])
    assert TokenRatio()(logp, torch.zeros(1, 5), mask).tolist() == [[0.0, 20.0, -20.0, 0.0, 0.0]]


def test_tau_follows_the_sign_and_zero_counts_as_negative() -> None:
    """Eq. 3."""
    assert tau_by_sign(torch.tensor([2.0, 0.0, -1.0]), ConstantTau(pos=10, neg=12)).tolist() == [10, 12, 12]


def test_sequence_mean_worked_by_hand() -> None:
    # completion 1: (1 + 2) / 2; completion 2: 6; over 4 completions of the whole update: 7.5 / 4
    terms = torch.tensor([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert SequenceMean().mean(terms, mask, Totals(completions=4, tokens=99)).item() == pytest.approx(7.5 / 4)


@pytest.mark.parametrize("name", gates.names())
def test_gradient_is_the_coefficient_of_equation_4(name: str) -> None:
    case, which = Case(), objective(name)
    _, gradient_NT, record = case.loss(which)
    ratio_NT = record.log_ratio_NT.exp()
    length_N1 = case.mask_NT.sum(dim=1, keepdim=True)
    expected_NT = -case.advantage_N[:, None] * ratio_NT * record.slope_NT * case.mask_NT / length_N1 / len(ratio_NT)
    torch.testing.assert_close(gradient_NT, expected_NT, rtol=2e-4, atol=1e-7)


def test_at_the_sampling_policy_all_gates_agree_and_eur_is_one() -> None:
    case = Case()
    losses, gradients, eurs = [], [], []
    for name in gates.names():
        loss, gradient_NT, record = case.loss(objective(name), shift=0.0)
        losses.append(loss)
        gradients.append(gradient_NT)
        eurs.append(effective_update_ratio(record.slope_NT, case.mask_NT, case.group_N).item())
    assert eurs == [1.0] * len(eurs)
    for loss, gradient_NT in zip(losses, gradients, strict=True):
        torch.testing.assert_close(gradient_NT, gradients[0])
        torch.testing.assert_close(loss, losses[0])  # the sigmoid too: it is logged through (1, 1)


def test_away_from_the_sampling_policy_gates_differ() -> None:
    case = Case()
    gradients = [case.loss(objective(name))[1] for name in PAPER]
    for i, gradient_NT in enumerate(gradients):
        for other_NT in gradients[:i]:
            assert (gradient_NT - other_NT).abs().max() > 1e-3


@pytest.mark.parametrize("name", gates.names())
def test_garbage_in_the_padding_changes_nothing(name: str) -> None:
    loss, gradient_NT, record = Case(garbage=math.nan).loss(objective(name))
    for garbage in (0.0, 1e30, -math.inf):
        other_loss, other_gradient_NT, other_record = Case(garbage=garbage).loss(objective(name))
        assert torch.equal(loss, other_loss)
        assert torch.equal(gradient_NT, other_gradient_NT)
        assert torch.equal(record.slope_NT, other_record.slope_NT)


def test_shares_of_micro_batches_sum_to_the_whole() -> None:
    case, which = Case(garbage=0.0), objective("arctan")
    whole, whole_gradient_NT, _ = case.loss(which)
    for size in (1, 3, 5):
        logp_NT = (case.anchor_NT + case.shift_NT).requires_grad_()
        shares = [case._policy_loss(which, logp_NT, slice(i, i + size))[0] for i in range(0, 8, size)]
        total = torch.stack(shares).sum()
        (gradient_NT,) = torch.autograd.grad(total, logp_NT)
        torch.testing.assert_close(total, whole)
        torch.testing.assert_close(gradient_NT, whole_gradient_NT)


def test_zero_advantage_gives_no_gradient_but_counts_in_eur() -> None:
    case = Case()
    case.advantage_N = torch.zeros(8)
    _, gradient_NT, record = case.loss(objective("erf"))
    assert not gradient_NT.any()
    assert 0 < effective_update_ratio(record.slope_NT, case.mask_NT, case.group_N) < 1


def test_a_token_that_has_all_but_vanished_leaves_gmpo_finite() -> None:
    """fp32, A > 0, log-ratios -18 and 0: f(r) = r, so the loss is -sqrt(e^-18) and its gradient half of that, twice."""
    logp_NT, anchor_NT = torch.tensor([[-20.0, -1.0]], requires_grad=True), torch.tensor([[-2.0, -1.0]])
    loss, _ = policy_loss(
        Objective(
            gate=gates.get("clip"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=GeometricMean()
        ),
        logp_NT=logp_NT,
        anchor_NT=anchor_NT,
        sampler_NT=anchor_NT,
        entropy_NT=torch.zeros(1, 2),
        advantage_N=torch.ones(1),
        mask_NT=torch.ones(1, 2, dtype=torch.bool),
        totals=Totals(completions=1, tokens=2),
    )
    (gradient,) = torch.autograd.grad(loss, logp_NT)
    assert loss.item() == pytest.approx(-math.exp(-9), rel=1e-5)
    assert gradient[0].tolist() == pytest.approx([-math.exp(-9) / 2] * 2, rel=1e-5)


def test_aggregations_worked_by_hand() -> None:
    # completion 1: 1 + 2 over 2 tokens; completion 2: 6 over 1; 4 completions and 10 tokens in the whole update
    terms = torch.tensor([[1.0, 2.0, 9.0], [6.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    totals = Totals(completions=4, tokens=10)
    assert TokenMean().mean(terms, mask, totals).item() == pytest.approx(9 / 10)
    assert Constant(length=5).mean(terms, mask, totals).item() == pytest.approx(9 / 5 / 4)
    assert SequenceSum().mean(terms, mask, totals).item() == pytest.approx(9 / 4)
    weights = torch.tensor([[2.0, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    # 2 sqrt(1 x 2) - 1 x 6
    assert GeometricMean()(terms, weights, mask, totals).item() == pytest.approx((2 * math.sqrt(2) - 6) / 4)


def test_sequence_ratios_worked_by_hand() -> None:
    # log-ratios 0.1 and 0.3: mean 0.2, sum 0.4
    logp = torch.tensor([[0.1, 0.3, 7.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    for pool, own, value, gradient in (
        ("mean", False, 0.2, [1.0, 1.0, 0.0]),  # two tokens share a mean: each gives 1/2 to both
        ("mean", True, 0.2, [1.0, 1.0, 0.0]),  # each gives 1 to itself
        ("sum", True, 0.4, [1.0, 1.0, 0.0]),
    ):
        got = RATIOS[pool, own]()(logp, torch.zeros(1, 3), mask)
        torch.testing.assert_close(got.detach(), torch.tensor([[value, value, 0.0]]))
        assert torch.autograd.grad(got.sum(), logp)[0].tolist() == [gradient]
        (first,) = torch.autograd.grad(got_first(pool, own, logp, mask), logp)
        assert first.tolist() == [[1.0, 0.0, 0.0] if own else [0.5, 0.5, 0.0]]


def got_first(pool: str, own: bool, logp: Tensor, mask: Tensor) -> Tensor:
    return RATIOS[pool, own]()(logp, torch.zeros(1, 3), mask)[0, 0]
