"""Rollout batches of a run, with the weights that were about to learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from gatepo import checkpoint
from gatepo.engine.weights import whole
from gatepo.errors import UserError
from gatepo.objective.aggregation import Totals
from gatepo.state import RolloutBatch
from gatepo.types import TokenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A checkpoint's weights, and the rollout batch of all ranks that they were about to learn from."""

    path: Path
    update: int  # that the weights have seen
    iteration: int  # passes over this batch that the weights have seen
    tokens: TokenBatch
    anchor_NT: Tensor
    totals: Totals


def snapshots(run: Path) -> Iterator[Snapshot]:
    """Give every checkpoint of a run that holds a rollout batch on which an update was made, oldest first.

    Raises:
      UserError: the run has none, or one is damaged.
    """
    given = 0
    for path in checkpoint.found(run):
        snapshot = _snapshot(path)
        if snapshot is not None:
            given += 1
            yield snapshot
    if not given:
        raise UserError(
            f"run must be a run with checkpoints, got {run}; train with checkpoint.every=N checkpoint.keep=null, "
            "N odd with two iterations, so that they fall between the iterations of a rollout batch"
        )


def _snapshot(path: Path) -> Snapshot | None:
    """Read a checkpoint; None where the run was asked to stop before an update on its rollout batch."""
    states = [checkpoint.read_state(path, rank) for rank in range(checkpoint.check(path).ranks)]
    with whole(path):
        batches = [state.rollout_batch for state in states if state.rollout_batch is not None]
        if not batches or batches[0].iteration == 0:
            return None
        return Snapshot(
            path=path,
            update=states[0].update,
            iteration=batches[0].iteration,
            tokens=_together([rollout_batch.tokens for rollout_batch in batches]),
            anchor_NT=_padded([_anchor(rollout_batch) for rollout_batch in batches]),
            totals=batches[0].totals,
        )


def _anchor(rollout_batch: RolloutBatch) -> Tensor:
    assert rollout_batch.anchor_NT is not None
    return rollout_batch.anchor_NT


def _together(batches: list[TokenBatch]) -> TokenBatch:
    parts = {f.name: [getattr(batch, f.name) for batch in batches] for f in fields(TokenBatch)}
    return TokenBatch(**{name: _padded(tensors) for name, tensors in parts.items() if tensors[0] is not None})


def _padded(tensors: list[Tensor]) -> Tensor:
    width = max(tensor.shape[-1] for tensor in tensors)
    return torch.cat([pad(t, (0, width - t.shape[-1])) if t.dim() == 2 else t for t in tensors])
