"""A batch of random completions, and the objective that most tests of a loss ask."""

import math

import torch
from torch import Tensor

from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.tau import ConstantTau

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
