"""Gates, objectives and the Effective Update Ratio for anyone's trainer, and a trainer of our own beside them.

The names below are the library: tensor math with no trainer behind it. They are imported when they are first used, so
that ``import gatepo`` is cheap.

>>> import torch, gatepo
>>> objective = gatepo.Objective(gate=gatepo.gates.Erf(), tau=gatepo.ConstantTau(pos=10, neg=12))
>>> logp = torch.tensor([[-1.0, -0.5]], requires_grad=True)
>>> loss, record = gatepo.policy_loss(
...     objective, logp_NT=logp, anchor_NT=logp.detach(), advantage_N=torch.ones(1), mask_NT=torch.ones(1, 2).bool()
... )
>>> loss.backward()
>>> logp.grad  # -A r f'(r) / |o|, and at r = 1 every gate has slope 1
tensor([[-0.5000, -0.5000]])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatepo import gates as gates
    from gatepo.formulas.gate import FormulaGate as FormulaGate
    from gatepo.logprobs import token_logprobs as token_logprobs
    from gatepo.objective.advantage import BatchZScore as BatchZScore
    from gatepo.objective.advantage import BatchZScoreWithBaseline as BatchZScoreWithBaseline
    from gatepo.objective.advantage import GroupCenter as GroupCenter
    from gatepo.objective.advantage import GroupZScore as GroupZScore
    from gatepo.objective.advantage import MaxRl as MaxRl
    from gatepo.objective.advantage import Rloo as Rloo
    from gatepo.objective.aggregation import Constant as Constant
    from gatepo.objective.aggregation import GeometricMean as GeometricMean
    from gatepo.objective.aggregation import SequenceMean as SequenceMean
    from gatepo.objective.aggregation import SequenceSum as SequenceSum
    from gatepo.objective.aggregation import TokenMean as TokenMean
    from gatepo.objective.aggregation import Totals as Totals
    from gatepo.objective.correction import Mask as Mask
    from gatepo.objective.correction import NoCorrection as NoCorrection
    from gatepo.objective.correction import Truncate as Truncate
    from gatepo.objective.kl import KlPenalty as KlPenalty
    from gatepo.objective.kl import NoKl as NoKl
    from gatepo.objective.ratio import SequenceProductRatio as SequenceProductRatio
    from gatepo.objective.ratio import SequenceRatio as SequenceRatio
    from gatepo.objective.ratio import SequenceTokenRatio as SequenceTokenRatio
    from gatepo.objective.ratio import TokenRatio as TokenRatio
    from gatepo.objective.surrogate import Objective as Objective
    from gatepo.objective.surrogate import TokenRecord as TokenRecord
    from gatepo.objective.surrogate import policy_loss as policy_loss
    from gatepo.objective.tau import ConstantTau as ConstantTau
    from gatepo.objective.tau import MatchedTau as MatchedTau
    from gatepo.objective.tau import tau_with_half_width as tau_with_half_width
    from gatepo.objective.telemetry import effective_update_ratio as effective_update_ratio
    from gatepo.objective.telemetry import token_metrics as token_metrics

_HOMES = {
    "formulas.gate": ("FormulaGate",),
    "logprobs": ("token_logprobs",),
    "objective.advantage": ("BatchZScore", "BatchZScoreWithBaseline", "GroupCenter", "GroupZScore", "MaxRl", "Rloo"),
    "objective.aggregation": ("Constant", "GeometricMean", "SequenceMean", "SequenceSum", "TokenMean", "Totals"),
    "objective.correction": ("Mask", "NoCorrection", "Truncate"),
    "objective.kl": ("KlPenalty", "NoKl"),
    "objective.ratio": ("SequenceProductRatio", "SequenceRatio", "SequenceTokenRatio", "TokenRatio"),
    "objective.surrogate": ("Objective", "TokenRecord", "policy_loss"),
    "objective.tau": ("ConstantTau", "MatchedTau", "tau_with_half_width"),
    "objective.telemetry": ("effective_update_ratio", "token_metrics"),
}
_HOME_OF = {name: f"gatepo.{home}" for home, names in _HOMES.items() for name in names}
__all__ = ["gates", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name == "gates":
        return import_module("gatepo.gates")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gatepo' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
