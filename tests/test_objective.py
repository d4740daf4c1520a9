"""Ratio, tau, advantage, aggregation, surrogate loss and EUR."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gatepo.objective import gates
from gatepo.objective.advantage import BatchZScore, BatchZScoreWithBaseline, GroupCenter, GroupZScore, MaxRl, Rloo
from gatepo.objective.aggregation import Constant, GeometricMean, SequenceMean, SequenceSum, TokenMean, Totals
from gatepo.objective.correction import Mask, Truncate
from gatepo.objective.kl import KlPenalty
from gatepo.objective.ratio import SequenceProductRatio, SequenceRatio, SequenceTokenRatio, TokenRatio
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.tau import ConstantTau, tau_by_sign
from gatepo.objective.telemetry import (
    effective_sample_size,
    effective_update_ratio,
    gradient_shares,
    join,
    tails,
    token_metrics,
)

CORRECTIONS = {"truncate": Truncate, "mask": Mask}
RATIOS = {
    ("mean", False): SequenceRatio,
    ("mean", True): SequenceTokenRatio,
    ("sum", True): SequenceProductRatio,
}
PAPER = ("sigmoid", "erf", "arctan", "softsign", "clip", "none")


def objective(gate: str, **options: float) -> Objective:
    return Objective(
        gate=gates.get(gate, **options), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
    )


class Case:
    """Random completions of different lengths; padding holds garbage."""

    def __init__(self, N: int = 8, T: int = 11, garbage: float = math.nan) -> None:
        generator = torch.Generator().manual_seed(3)
        length_N1 = torch.randint(1, T + 1, (N, 1), generator=generator)
        self.mask_NT = torch.arange(T)[None] < length_N1
        self.anchor_NT = torch.where(self.mask_NT, -torch.rand(N, T, generator=generator), garbage)
        self.shift_NT = 0.3 * torch.randn(N, T, generator=generator)
        self.advantage_N = torch.randn(N, generator=generator)
        self.group_N = torch.arange(N) // 4
        self.totals = Totals(completions=N, tokens=int(self.mask_NT.sum()))

    def loss(self, which: Objective, shift: float = 1.0) -> tuple[Tensor, Tensor, TokenRecord]:
        """(loss, its gradient by the log-probabilities, record)."""
        logp_NT = (self.anchor_NT + shift * self.shift_NT).requires_grad_()
        loss, record = self._policy_loss(which, logp_NT, slice(None))
        (gradient_NT,) = torch.autograd.grad(loss, logp_NT)
        return loss.detach(), gradient_NT, record

    def _policy_loss(self, which: Objective, logp_NT: Tensor, rows: slice) -> tuple[Tensor, TokenRecord]:
        return policy_loss(
            which,
            logp_NT=logp_NT[rows],
            anchor_NT=self.anchor_NT[rows],
            sampler_NT=self.anchor_NT[rows],
            entropy_NT=torch.zeros_like(self.anchor_NT[rows]),
            advantage_N=self.advantage_N[rows],
            mask_NT=self.mask_NT[rows],
            totals=self.totals,
        )


def test_ratio_is_masked_before_it_is_clamped() -> None:
    logp = torch.tensor([[0.0, 100.0, -100.0, math.nan, math.inf]])
    mask = torch.tensor([[True, True, True, False, False]])
    assert TokenRatio()(logp, torch.zeros(1, 5), mask).tolist() == [[0.0, 20.0, -20.0, 0.0, 0.0]]


def test_tau_follows_the_sign_and_zero_counts_as_negative() -> None:
    """Eq. 3."""
    assert tau_by_sign(torch.tensor([2.0, 0.0, -1.0]), ConstantTau(pos=10, neg=12)).tolist() == [10, 12, 12]


def test_zscore_worked_by_hand() -> None:
    # mean 1, deviations -1 0 1, sample standard deviation 1: A = -1, 0, 1 over 1 + 1e-4
    got = GroupZScore()(torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    torch.testing.assert_close(got, torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]) / 1.0001)


def test_zscore_with_the_population_deviation() -> None:
    # deviations -1 0 1, population standard deviation sqrt(2/3)
    got = GroupZScore(eps=0.0, ddof=0)(torch.tensor([[0.0, 1.0, 2.0]]))
    torch.testing.assert_close(got, torch.tensor([[-1.0, 0.0, 1.0]]) * math.sqrt(1.5))


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


def test_eur_worked_by_hand() -> None:
    # eq. 12: prompt 0 has completions of 2 and 1 tokens: (1 + 0.5 + 0) / 3 = 0.5; prompt 1: (1 + 1) / 2 = 1;
    # mean over prompts 0.75. The token mean would be 3.5 / 5 = 0.7, the mean over completions 0.6875.
    slope_NT = torch.tensor([[1.0, 0.5, 9.0], [0.0, 9.0, 9.0], [1.0, 9.0, 9.0], [1.0, 9.0, 9.0]])
    mask_NT = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)
    assert effective_update_ratio(slope_NT, mask_NT, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(0.75)
    assert effective_update_ratio(slope_NT, mask_NT, torch.tensor([7, 7, 3, 3])).item() == pytest.approx(0.75)


def test_eur_leaves_out_prompts_without_tokens() -> None:
    slope_NT, mask_NT = torch.tensor([[0.5], [0.1]]), torch.tensor([[True], [False]])
    assert effective_update_ratio(slope_NT, mask_NT, torch.tensor([0, 1])).item() == pytest.approx(0.5)


def test_eur_of_clip_is_one_minus_the_clip_ratio() -> None:
    case = Case()
    _, _, record = case.loss(objective("clip"), shift=2.0)
    ratio_NT, positive_N1 = record.log_ratio_NT.exp(), (case.advantage_N > 0)[:, None]
    clipped_NT = torch.where(positive_N1, ratio_NT > 1.2, ratio_NT < 0.8) & case.mask_NT
    one_group = torch.zeros(8, dtype=torch.long)
    clip_ratio = clipped_NT.sum() / case.mask_NT.sum()
    assert 0 < clip_ratio < 1
    eur = effective_update_ratio(record.slope_NT, case.mask_NT, one_group)
    assert eur.item() == pytest.approx(1 - clip_ratio.item(), abs=1e-6)
    assert token_metrics(record, one_group, 2, 20.0)["clip_ratio/region_mean"] == pytest.approx(clip_ratio.item())


@pytest.mark.parametrize("gate", gates.names())
def test_the_share_passed_is_within_0_and_1_and_is_eur_where_slopes_are(gate: str) -> None:
    case = Case()
    _, _, record = case.loss(objective(gate), shift=8.0)  # log-ratios up to 5 on both sides
    got = token_metrics(record, case.group_N, 2, 20.0)
    slope_M = record.slope_NT[case.mask_NT]
    assert 0 <= got["eur/passed"] <= 1
    if gate in ("ce_gppo", "aspo", "gamma"):
        assert slope_M.max() > 1
        assert got["eur"] > got["eur/passed"]
    else:
        assert 0 <= slope_M.min() <= slope_M.max() <= 1
        assert got["eur"] == got["eur/passed"]


def test_the_share_passed_worked_by_hand() -> None:
    # CE-GPPO, A < 0, below 0.8: slope 0.6 / r. At r = 0.003 it is 200, all is passed and 199 added; at r = 0.75 it is
    # 0.8, at 1 it is 1. EUR (200 + 0.8 + 1) / 3 = 67.2667, passed (1 + 0.8 + 1) / 3
    ratio_NT, mask_NT = torch.tensor([[0.003, 0.75, 1.0]]), torch.ones(1, 3).bool()
    _, record = policy_loss(
        objective("ce_gppo"),
        logp_NT=ratio_NT.log(),
        anchor_NT=torch.zeros(1, 3),
        advantage_N=torch.tensor([-1.0]),
        mask_NT=mask_NT,
    )
    got = token_metrics(record, torch.tensor([0]), 2, 20.0)
    assert got["eur"] == pytest.approx(201.8 / 3, rel=1e-5)
    assert got["eur/passed"] == pytest.approx(2.8 / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("gate", "positive", "negative"),
    [
        # ratios 0.1, 0.7, 0.9, 1.1, 1.3, 4, 11: what the authors' code counts as clipped
        ("clip", "0000111", "1100000"),
        ("ce_gppo", "0000111", "1100001"),  # whose slopes there are not 0: 1.2 / 1.3 and 0.6 / 0.7 are above 1/2
        ("dual_clip", "0000111", "1100011"),
        ("cispo", "0000001", "0000001"),  # the weight is bounded above 5
        ("aspo", "1000111", "1100011"),  # and above 3, which is r < 1/3 where A > 0
    ],
)
def test_the_clip_ratio_counts_what_a_gate_clips(gate: str, positive: str, negative: str) -> None:
    ratio_NT = torch.tensor([[0.1, 0.7, 0.9, 1.1, 1.3, 4.0, 11.0]])
    for advantage, wanted in ((1.0, positive), (-1.0, negative)):
        _, record = policy_loss(
            objective(gate),
            logp_NT=ratio_NT.log(),
            anchor_NT=torch.zeros(1, 7),
            advantage_N=torch.tensor([advantage]),
            mask_NT=torch.ones(1, 7).bool(),
        )
        got = token_metrics(record, torch.tensor([0]), 2, 20.0)
        shares = [got[f"clip_ratio/{side}_mean"] * 7 for side in ("low", "high", "region")]
        counts = [wanted[:3].count("1"), wanted[3:].count("1"), wanted.count("1")]
        assert shares == pytest.approx(counts), (gate, advantage)


def test_eur_falls_as_tau_rises() -> None:
    case, eurs = Case(), []
    for pos, neg in ((1, 1.05), (5, 6), (10, 12), (13, 15)):
        which = Objective(
            gate=gates.get("erf"),
            tau=ConstantTau(pos=pos, neg=neg),
            ratio=TokenRatio(),
            aggregation=SequenceMean(),
        )
        _, _, record = case.loss(which)
        eurs.append(effective_update_ratio(record.slope_NT, case.mask_NT, case.group_N).item())
    assert eurs == sorted(eurs, reverse=True)
    assert eurs[0] - eurs[-1] > 0.2


def test_token_metrics_tell_signs_and_clamping_apart() -> None:
    mask_NT = torch.ones(2, 2, dtype=torch.bool)
    record = TokenRecord(
        log_ratio_NT=torch.tensor([[0.0, 20.0], [0.0, 0.0]]),
        slope_NT=torch.tensor([[1.0, 0.0], [0.6, 1.0]]),
        coefficient_NT=torch.tensor([[1.0, 0.0], [0.6, 1.0]]),
        clipped_NT=torch.tensor([[False, True], [False, False]]),
        entropy_NT=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        correction_NT=torch.ones(2, 2),
        kl_NT=torch.zeros(2, 2),
        mask_NT=mask_NT,
        advantage_N=torch.tensor([1.0, -1.0]),
    )
    got = token_metrics(record, torch.tensor([0, 0]), 2, 20.0)
    assert got["eur/positive"] == pytest.approx(0.5)
    assert got["eur/negative"] == pytest.approx(0.8)
    assert got["eur/iteration_2"] == got["eur"] == pytest.approx(0.65)
    assert got["entropy"] == pytest.approx(2.5)
    assert got["ratio/clamped_frac"] == pytest.approx(0.25)
    assert (got["clip_ratio/low_mean"], got["clip_ratio/high_mean"]) == (0, 0.25)


def test_records_of_different_widths_are_joined_in_the_updates_order() -> None:
    def record(width: int, fill: float) -> TokenRecord:
        block = torch.full((1, width), fill)
        return TokenRecord(
            log_ratio_NT=block,
            slope_NT=block,
            coefficient_NT=block,
            clipped_NT=block.bool(),
            entropy_NT=block,
            correction_NT=block,
            kl_NT=block,
            mask_NT=block.bool(),
            advantage_N=torch.tensor([fill]),
        )

    both = join([record(1, 1.0), record(3, 2.0)]).rows(torch.tensor([1, 0]))
    assert both.slope_NT.tolist() == [[2, 2, 2], [1, 0, 0]]
    assert both.mask_NT.sum().item() == 4
    assert both.advantage_N.tolist() == [2, 1]


# Correction of the sampler's mismatch

LOG2 = math.log(2.0)
ANCHOR = torch.tensor([[LOG2, 2 * LOG2, -LOG2, math.nan], [2 * LOG2, LOG2, math.inf, 0.0]])
SAMPLER = torch.zeros(2, 4)
TOKENS = torch.tensor([[True, True, True, False], [True, True, False, False]])


@pytest.mark.parametrize(
    ("level", "bound", "expected"),
    [
        # weights by token: 2, 4, 1/2 and 4, 2; cap 3
        ("token", "truncate", [[2, 3, 0.5, 1], [3, 2, 1, 1]]),
        ("token", "mask", [[2, 0, 0.5, 1], [0, 2, 1, 1]]),
        # products: 2 * 4 / 2 = 4 and 4 * 2 = 8
        ("sequence", "truncate", [[3, 3, 3, 1], [3, 3, 1, 1]]),
        ("sequence", "mask", [[0, 0, 0, 1], [0, 0, 1, 1]]),
    ],
)
def test_weights_of_the_mismatch_are_bounded(level: str, bound: str, expected: list[list[float]]) -> None:
    weight = CORRECTIONS[bound](level=level, cap=3.0)(ANCHOR, SAMPLER, TOKENS)
    torch.testing.assert_close(weight, torch.tensor(expected, dtype=torch.float32))


def test_a_sequence_of_extreme_mismatch_stays_finite() -> None:
    far = Truncate(level="sequence", cap=3.0)
    mask = torch.ones(1, 5, dtype=torch.bool)
    assert far(torch.full((1, 5), 100.0), torch.zeros(1, 5), mask).tolist() == [[3.0] * 5]
    assert far(torch.full((1, 5), -100.0), torch.zeros(1, 5), mask).tolist() == [[0.0] * 5]


def test_the_correction_multiplies_the_gradient_of_each_token_and_the_record_shows_it() -> None:
    case = Case(garbage=0.0)
    sampler_NT = case.anchor_NT - 0.7 * torch.randn(case.anchor_NT.shape, generator=torch.Generator().manual_seed(5))
    plain, corrected = (
        objective("erf"),
        replace(objective("erf"), correction=Truncate(level="token", cap=1.5)),
    )

    def gradient(which: Objective) -> tuple[Tensor, TokenRecord]:
        logp_NT = (case.anchor_NT + case.shift_NT).requires_grad_()
        loss, record = policy_loss(
            which,
            logp_NT=logp_NT,
            anchor_NT=case.anchor_NT,
            sampler_NT=sampler_NT,
            entropy_NT=torch.zeros_like(logp_NT),
            advantage_N=case.advantage_N,
            mask_NT=case.mask_NT,
            totals=case.totals,
        )
        return torch.autograd.grad(loss, logp_NT)[0], record

    weight_NT = (case.anchor_NT - sampler_NT).exp().clamp(max=1.5)
    (without, bare), (with_it, record) = gradient(plain), gradient(corrected)
    torch.testing.assert_close(with_it, without * weight_NT)
    assert torch.equal(bare.correction_NT, torch.ones_like(weight_NT))
    got = token_metrics(record, case.group_N, 1, 20.0)
    assert got["correction/mean"] == pytest.approx(weight_NT[case.mask_NT].mean().item(), rel=1e-5)


def test_effective_sample_size_worked_by_hand() -> None:
    # (1 + 1 + 2)^2 / (3 (1 + 1 + 4)) = 16 / 18
    assert effective_sample_size(torch.tensor([1.0, 1.0, 2.0])).item() == pytest.approx(16 / 18)
    assert effective_sample_size(torch.ones(7)).item() == pytest.approx(1)


def test_gradient_shares_worked_by_hand() -> None:
    # sizes 1, 2, 3, 4 of 10 in the bands up to 0.01, to 0.05, to 0.2, above 1; nothing between 0.2 and 1
    got = gradient_shares(torch.tensor([0.0, -0.03, 0.1, -2.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    wanted = {"below_0.01": 0.1, "below_0.05": 0.2, "below_0.2": 0.3, "below_1.0": 0.0, "above_1.0": 0.4}
    assert got == pytest.approx({f"gradient_share/{name}": share for name, share in wanted.items()})


def test_tails_of_known_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(200_000, generator=generator)
    assert tails(normal)["gradient/kurtosis"] == pytest.approx(3, abs=0.1)
    uniform = torch.rand(200_000, generator=generator, dtype=torch.float64)
    for alpha in (1.5, 3.0):  # Pareto: P(x > t) = t^-alpha
        assert tails(uniform ** (-1 / alpha))["gradient/tail_index"] == pytest.approx(alpha, rel=0.05)
    assert tails(torch.ones(100)) == {"gradient/kurtosis": pytest.approx(1)}
    assert tails(torch.ones(39)) == tails(torch.zeros(100)) == {}
    # half of the tokens are clipped: E[x^4] = E[x^2] = 1/2, and (1/2) / (1/2)^2 = 2
    assert tails(torch.cat([torch.ones(100), torch.zeros(100)])) == {"gradient/kurtosis": pytest.approx(2)}
    assert "gradient/tail_index" not in tails(torch.cat([torch.ones(3), torch.zeros(100)]))


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


def test_which_kl_estimators_have_the_gradient_of_kl() -> None:
    """Exact expectations over 5 tokens, which do not move with the policy that learns."""
    logits, other = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits.requires_grad_()
    mask = torch.ones(1, 5, dtype=torch.bool)

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    p, q = logits.log_softmax(0), other.log_softmax(0)
    wanted = {"initial": gradient((p.exp() * (p - q)).sum()), "sampling": gradient((q.exp() * (q - p)).sum())}
    right = set()
    for reference, drawn_from in (("initial", p), ("sampling", q)):
        for estimator in ("k1", "k2", "k3"):
            penalty = KlPenalty(reference=reference, estimator=estimator, coefficient=1.0)
            found = gradient((drawn_from.detach().exp() * penalty(p[None], q[None], mask, 20.0)[0]).sum())
            if torch.allclose(found, wanted[reference]):
                right.add((reference, estimator))
            assert (found.abs().max() < 1e-12) == ((reference, estimator) == ("initial", "k1"))
    assert right == {("initial", "k2"), ("sampling", "k1"), ("sampling", "k3")}


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_estimators_agree_with_the_divergence(estimator: str) -> None:
    """KL(p || q) of two categorical distributions, by the exact expectation over p; k2 is only close to it."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.35, 0.25])
    exact = (p * (p / q).log()).sum()
    mask = torch.ones(1, 3, dtype=torch.bool)
    initial = KlPenalty(reference="initial", estimator=estimator, coefficient=1.0)
    sampling = KlPenalty(reference="sampling", estimator=estimator, coefficient=1.0)
    tolerance = {"k1": 1e-6, "k2": 2e-3, "k3": 1e-6}[estimator]
    # initial: the expectation is over the policy p, q is the reference; sampling: over pi_old = p, q is the policy
    assert (p * initial(p.log()[None], q.log()[None], mask, 20.0)).sum().item() == pytest.approx(
        exact.item(), abs=tolerance
    )
    assert (p * sampling(q.log()[None], p.log()[None], mask, 20.0)).sum().item() == pytest.approx(
        exact.item(), abs=tolerance
    )


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
