"""Exact resume: what a run needs to go on, in its own folder, whole or not there at all.

``RUN/checkpoints/update-000020/`` holds the engine's part (weights, optimizer, schedule), ``state-RANK.pt`` of each
rank (positions, controls and the rollout batch in training), ``basis.json``, what it rests on, and
``checkpoint.json``, which lists the files with their sizes and SHA-256. It gets this name only once all of it is on the
disk (:mod:`gatepo.durable`).
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from gatepo import durable, manifest
from gatepo.engine.base import PolicyEngine
from gatepo.engine.weights import whole
from gatepo.errors import UserError
from gatepo.manifest import Damaged, Manifest
from gatepo.objective.aggregation import Totals
from gatepo.run_folder import BASIS, CHECKPOINTS, found, how_to_go_on, is_finished
from gatepo.state import RolloutBatch, RunState
from gatepo.types import TokenBatch
from gatepo.world import World

log = logging.getLogger(__name__)
ENGINE = "engine"
FIRST = 12  # bytes per parameter of a first checkpoint, more or less: weights and the two moments of Adam, fp32


def say_how_to_resume(run: Path, known: list[Path]) -> None:
    """Print how an interrupted run goes on, where it has a checkpoint that was not ``known`` as it was started."""
    if set(found(run)) - set(known) and not is_finished(run):
        print(f"gatepo: {how_to_go_on(run)}", file=sys.stderr, flush=True)


def save(
    run: Path,
    engine: PolicyEngine,
    state: RunState,
    world: World,
    keep: int | None,
    parameters: int = 0,
    basis: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, together with the other ranks; then only the newest ``keep`` stay (None: all).

    Args:
      run: the run's folder.
      engine: writes its part.
      state: of this rank.
      world: the ranks.
      keep: how many stay.
      parameters: of the policy, from which the bytes of a first checkpoint are estimated where the disk is full.
      basis: what the checkpoint rests on (:mod:`gatepo.resume`), on the first rank.
    Raises:
      UserError: the disk is full; the checkpoints that there were stay.
    """
    final = run / CHECKPOINTS / f"update-{state.update:06d}"
    partial = durable.partial_of(final)
    needed = _bytes_of_newest(run) or FIRST * parameters
    with durable.room_for(final, needed, partial if world.size == 1 else None):
        if world.first:
            _remove_what_was_cut_off(run)
            durable.make_folder(partial)
        world.barrier()
        engine.save(partial / ENGINE)
        torch.save(state, _state_file(partial, world.rank))
        if basis is not None:
            (partial / BASIS).write_text(json.dumps(basis, indent=2) + "\n", encoding="utf-8")
        world.barrier()
        if world.local_rank == 0:
            durable.flush_tree(partial)  # on each host, whose own memory it may still be in
        world.barrier()
        made = _manifest(partial, state.update, world)
        if world.first:
            made.write(partial)
            durable.publish(partial, final)
    if world.first:
        _keep_newest(run, keep)  # only now, with the new one on the disk
    world.barrier()
    return final


def _keep_newest(run: Path, keep: int | None) -> None:
    for old in found(run)[: -keep if keep else 0]:
        durable.discard(old)


def clear(run: Path, keep: int | None) -> None:
    """Remove what a process that was killed still had to remove: the run may end without a further checkpoint.

    Args:
      run: the run's folder, whose newest checkpoint is whole.
      keep: how many checkpoints stay (None: all).
    """
    _remove_what_was_cut_off(run)
    _keep_newest(run, keep)


def _remove_what_was_cut_off(run: Path) -> None:
    """Remove what a process that was killed had not finished writing, or removing."""
    for left in (run / CHECKPOINTS).glob(f"*{durable.PARTIAL}"):
        shutil.rmtree(left)


def _bytes_of_newest(run: Path) -> int:
    return sum(file.stat().st_size for newest in found(run)[-1:] for file in _files(newest))


def _manifest(folder: Path, update: int, world: World) -> Manifest:
    """Measure what was written; each rank reads its share."""
    files = world.broadcast({str(p.relative_to(folder)): p.stat().st_size for p in _files(folder)})
    digests: dict[str, str] = {}
    for share in world.gather({name: manifest.digest(folder / name) for name in world.share(list(files))}):
        digests |= share
    return Manifest(update=update, ranks=world.size, files=files, sha256=digests)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def newest_whole(run: Path, world: World) -> Path:
    """Give the newest checkpoint from which the run can go on, and say so where a newer one is damaged.

    Damaged ones get another name, so that none of them counts among those that stay.

    Raises:
      UserError: no checkpoint is whole, or there were other numbers of ranks.
    """
    faults: dict[Path, str] = {}
    for path in reversed(world.broadcast(found(run))):
        fault = _fault(path, world)
        if fault is None:
            written = manifest.read(path)
            _require_ranks(path, written, world.size)
            if world.first:
                _say_if_unchecked(path, written)
                _set_aside(faults, path)
            world.barrier()
            return path
        faults[path] = fault
    newest = next(iter(faults.values()))
    raise UserError(f"{newest}; no checkpoint before it is whole, so that the run must be started again")


def _fault(path: Path, world: World) -> str | None:
    """Say what is wrong with a checkpoint, or None; each rank reads its share of the files, and all learn of it."""
    own = None
    try:
        read = manifest.read(path)
        read.check(path, world.share(sorted(read.files)))
    except Damaged as damaged:
        own = str(damaged)
    return next((fault for fault in world.gather(own) if fault is not None), None)


def _set_aside(faults: dict[Path, str], whole: Path) -> None:
    for path, fault in faults.items():
        aside = path.with_suffix(".damaged")
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(aside)
        log.warning("%s; the run goes on from %s, and the damaged one is now %s", fault, whole, aside)


def load(path: Path, engine: PolicyEngine, world: World) -> RunState:
    """Put the engine where a whole checkpoint left it, and give this rank's state."""
    engine.load(path / ENGINE)
    return read_state(path, world.rank)


def check(path: Path, ranks: int | None = None) -> Manifest:
    """Give the manifest of a checkpoint that is whole, and was written by so many ranks, where that is asked.

    Raises:
      UserError: a file of it is missing, cut or altered, its manifest is none, or there were other numbers of ranks.
    """
    try:
        found = manifest.read(path)
        found.check(path, found.files)
    except Damaged as damaged:
        raise UserError(f"{damaged}; remove {path} to use the one before") from damaged
    _say_if_unchecked(path, found)
    if ranks is not None:
        _require_ranks(path, found, ranks)
    return found


def _say_if_unchecked(path: Path, found: Manifest) -> None:
    if not found.sha256:
        log.warning("%s was written by a version without SHA-256: that no bit of it was flipped is not known", path)


def _require_ranks(path: Path, found: Manifest, ranks: int) -> None:
    if found.ranks != ranks:
        raise UserError(f"devices must be {found.ranks}, as when {path} was written, got {ranks}")


def read_state(path: Path, rank: int) -> RunState:
    """Read one rank's positions and rollout batch, on the CPU.

    Raises:
      UserError: an earlier version of gatepo wrote it.
    """
    file = _state_file(path, rank)
    with whole(file), torch.serialization.safe_globals([RunState, RolloutBatch, TokenBatch, Totals]):
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise UserError(
                f"{path} must be a checkpoint of this version of gatepo, got one whose state holds other classes; "
                "read it with the version that wrote it, or evaluate its weights: python -m gatepo.evaluate run=..."
            ) from error
    if not isinstance(state, RunState):
        raise UserError(f"{file} must be the state of a run, got {type(state).__name__}; choose another checkpoint")
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
