"""The correction of the sampler's mismatch."""

import math
from dataclasses import replace

import pytest
import torch
from objective_case import Case, objective
from torch import Tensor

from gatepo.objective.correction import Mask, Truncate
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.telemetry import token_metrics

CORRECTIONS = {"truncate": Truncate, "mask": Mask}
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
