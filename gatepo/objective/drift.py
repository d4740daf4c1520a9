"""How far the policy has gone from pi_old on the tokens of an update that is still to be made.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gatepo.objective.gates import Gate
from gatepo.objective.surrogate import gated
from gatepo.objective.tau import Tau
from gatepo.objective.telemetry import effective_update_ratio

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The log-ratios of one device's completions, which are all completions of their prompts."""

    log_ratio_NT: Tensor  # nats, masked and clamped
    advantage_N: Tensor
    mask_NT: Tensor  # True on completion tokens
    group_N: Tensor  # index of the prompt that each completion answers

    def eur(self, gate: Gate, tau: Tau) -> float:
        """Give what EUR (eq. 12) would be with this gate and tau."""
        with torch.no_grad():
            slope_NT = gated(gate, tau, self.log_ratio_NT, self.advantage_N[:, None]).slope_NT
        return effective_update_ratio(slope_NT, self.mask_NT, self.group_N).item()

    @property
    def prompts(self) -> int:
        """How many prompts have tokens."""
        return len(torch.unique(self.group_N[self.mask_NT.any(dim=1)]))


def eur_of(devices: Sequence[Drift], gate: Gate, tau: Tau) -> float:
    """Give EUR over the prompts of all devices.

    >>> from gatepo.objective.gates import Arctan
    >>> from gatepo.objective.tau import ConstantTau
    >>> ratio = torch.tensor([[1.1, 1.0]])
    >>> one = Drift(log_ratio_NT=ratio.log(), advantage_N=torch.ones(1), mask_NT=torch.ones(1, 2).bool(),
    ...             group_N=torch.zeros(1).long())
    >>> round(eur_of([one, one], Arctan(), ConstantTau(pos=10, neg=12)), 6)  # (1 / (1 + 10^2 0.1^2) + 1) / 2
    0.75
    """
    known = [(device.eur(gate, tau) * device.prompts, device.prompts) for device in devices if device.prompts]
    return sum(total for total, _ in known) / sum(prompts for _, prompts in known)
