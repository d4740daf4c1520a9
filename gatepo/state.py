"""What a run needs to go on after an interruption, in one place.

No random number generator is part of it: every draw (prompt order, completions) is a function of the seed and a
position, so the positions are the state. Weights, optimizer and schedule live in the engine, which saves and loads
them itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gatepo.objective.aggregation import Totals
from gatepo.types import TokenBatch


@dataclass(slots=True, kw_only=True)
class RolloutBatch:
    """All groups sampled from one policy version, while they are trained on."""

    tokens: TokenBatch  # of this device
    totals: Totals  # over all devices
    metrics: dict[str, float]  # of its rewards and completions
    samples: list[dict[str, object]]  # to be read by a person
    anchor_NT: Tensor | None = None  # log pi_old, known from the first iteration on
    iteration: int = 0  # passes that are done
    taken_before: float = 0.0  # 1 - EUR of the first iteration

    def to(self, device: torch.device) -> RolloutBatch:
        """Move it to another device."""
        anchor_NT = None if self.anchor_NT is None else self.anchor_NT.to(device)
        return replace(self, tokens=self.tokens.to(device), anchor_NT=anchor_NT)


@dataclass(slots=True, kw_only=True)
class RunState:
    """Positions of a run. Fresh when all are at their defaults."""

    seed: int
    update: int = 0  # optimizer steps done; also the lines of metrics.jsonl
    rollouts: int = 0  # rollout batches drawn
    position: int = 0  # prompts taken from the stream
    num_tokens: int = 0  # prompt and completion tokens seen
    controls: dict[str, float] = field(default_factory=dict)  # what schedules and controllers remember
    rounding: float | None = None  # 1 - EUR of unchanged weights, as last measured
    seconds: float = 0.0  # of training, over all interruptions
    before: dict[str, float] = field(default_factory=dict)  # accuracy of the untrained model by evaluation set
    unwritten: dict[str, float] | None = None  # metrics of an update, cut off while it was evaluated
    rollout_batch: RolloutBatch | None = None  # None before the first; replaced once its iterations are done
