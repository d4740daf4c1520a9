"""Exact resume: what a run needs to go on, in its own folder, whole or not there at all.

``RUN/checkpoints/update-000020/`` holds the engine's part (weights, optimizer, schedule), ``state-RANK.pt`` of each
rank (positions, controls and the rollout batch in training), and ``checkpoint.json``, which lists the files and their
sizes. It gets this name only once all of it is on the disk (:mod:`gatepo.durable`).
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError

import torch

from gatepo import durable
from gatepo.engine.base import PolicyEngine
from gatepo.errors import UserError
from gatepo.objective.aggregation import Totals
from gatepo.state import RolloutBatch, RunState
from gatepo.types import TokenBatch
from gatepo.world import World

FOLDER, MANIFEST, ENGINE = "checkpoints", "checkpoint.json", "engine"


def found(run: Path) -> list[Path]:
    """Give the whole checkpoints of a run, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("update-*") if path.suffix == "")


def say_how_to_resume(run: Path) -> None:
    """Print how an interrupted run goes on, if it can."""
    if found(run) and not (run / "summary.json").exists():
        print(f"gatepo: go on with: python -m gatepo.train resume={run}", file=sys.stderr, flush=True)


def save(run: Path, engine: PolicyEngine, state: RunState, world: World, keep: int | None) -> Path:
    """Write a checkpoint, together with the other ranks; then only the newest ``keep`` stay (None: all)."""
    final = run / FOLDER / f"update-{state.update:06d}"
    partial = durable.partial_of(final)
    if world.first:
        for left in final.parent.glob(f"*{durable.PARTIAL}"):  # by a run that was cut off
            shutil.rmtree(left)
        durable.make_folder(partial)
    world.barrier()
    engine.save(partial / ENGINE)
    torch.save(state, _state_file(partial, world.rank))
    world.barrier()
    if world.local_rank == 0:
        durable.flush_tree(partial)  # on each host, whose own memory it may still be in
    world.barrier()
    if world.first:
        files = {str(p.relative_to(partial)): p.stat().st_size for p in sorted(partial.rglob("*")) if p.is_file()}
        manifest = {"update": state.update, "ranks": world.size, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        durable.publish(partial, final)
        for old in found(run)[: -keep if keep else 0]:  # only now, with the new one on the disk
            durable.discard(old)
    world.barrier()
    return final


def load(path: Path, engine: PolicyEngine, world: World) -> RunState:
    """Put the engine where the checkpoint left it, and give this rank's state.

    Raises:
      UserError: a file is missing or cut short, or there were other numbers of ranks.
    """
    check(path, world.size)
    engine.load(path / ENGINE)
    return read_state(path, world.rank)


def check(path: Path, ranks: int) -> None:
    """See the errors of :func:`load`."""
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for name, size in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            raise UserError(f"{file} must be the {size} bytes that were written; remove {path} to use the one before")
    if manifest["ranks"] != ranks:
        raise UserError(f"devices must be {manifest['ranks']}, as when {path} was written, got {ranks}")


def ranks(path: Path) -> int:
    """Say how many processes wrote a checkpoint."""
    return int(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["ranks"])


def read_state(path: Path, rank: int) -> RunState:
    """Read one rank's positions and rollout batch, on the CPU.

    Raises:
      UserError: an earlier version of gatepo wrote it.
    """
    with torch.serialization.safe_globals([RunState, RolloutBatch, TokenBatch, Totals]):
        try:
            state = torch.load(_state_file(path, rank), map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise UserError(
                f"{path} must be a checkpoint of this version of gatepo, got one whose state holds other classes; "
                "read it with the version that wrote it, or evaluate its weights: python -m gatepo.evaluate run=..."
            ) from error
    assert isinstance(state, RunState)
    for part in (state, state.rollout_batch):
        _give_what_is_new(part)
    return state


def _give_what_is_new(part: RunState | RolloutBatch | None) -> None:
    """Give a state that an earlier version wrote the defaults of the fields that it did not have."""
    for f in fields(part) if part is not None else ():
        if not hasattr(part, f.name):
            setattr(part, f.name, f.default)


def _state_file(path: Path, rank: int) -> Path:
    return path / f"state-{rank}.pt"
