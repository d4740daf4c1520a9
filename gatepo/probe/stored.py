"""Rollout batches of a run, with the weights that were about to learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from gatepo import checkpoint
from gatepo.errors import UserError
from gatepo.objective.aggregation import Totals
from gatepo.state import Flight
from gatepo.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A checkpoint's rollout batch, of all ranks."""

    path: Path
    update: int  # that the weights have seen
    iteration: int  # passes over this batch that the weights have seen
    batch: Batch
    anchor_NT: Tensor
    totals: Totals


def stored_batches(run: Path) -> Iterator[Stored]:
    """Every checkpoint of a run that holds a rollout batch, oldest first.

    Raises:
      UserError: the run has none.
    """
    paths = checkpoint.found(run)
    if not paths:
        raise UserError(
            f"run must be a run with checkpoints, got {run}; train with checkpoint.every=N checkpoint.keep=null, "
            "N odd with two iterations, so that they fall between the iterations of a rollout batch"
        )
    for path in paths:
        states = [checkpoint.read_state(path, rank) for rank in range(checkpoint.ranks(path))]
        flights = [state.flight for state in states if state.flight is not None]
        assert len(flights) == len(states), "every checkpoint is written with a rollout batch in flight"
        yield Stored(
            path=path,
            update=states[0].update,
            iteration=flights[0].iteration,
            batch=_together([flight.batch for flight in flights]),
            anchor_NT=_padded([_anchor(flight) for flight in flights]),
            totals=flights[0].totals,
        )


def _anchor(flight: Flight) -> Tensor:
    assert flight.anchor_NT is not None
    return flight.anchor_NT


def _together(batches: list[Batch]) -> Batch:
    parts = {f.name: [getattr(batch, f.name) for batch in batches] for f in fields(Batch)}
    return Batch(**{name: _padded(tensors) for name, tensors in parts.items() if tensors[0] is not None})


def _padded(tensors: list[Tensor]) -> Tensor:
    width = max(tensor.shape[-1] for tensor in tensors)
    return torch.cat([pad(t, (0, width - t.shape[-1])) if t.dim() == 2 else t for t in tensors])
