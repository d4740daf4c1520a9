"""What is measured of the tokens of an update: EUR, clip ratio, tails."""

import pytest
import torch
from objective_case import Case, objective

from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.tau import ConstantTau
from gatepo.objective.telemetry import (
    effective_sample_size,
    effective_update_ratio,
    gradient_shares,
    join,
    tails,
    token_metrics,
)


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
