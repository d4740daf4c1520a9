"""The processes of one run: who they are, what they tell each other, and how the death of one ends the others.

One process per device. Whoever starts them (``devices=N``, torchrun, SLURM) describes each one's place in its
environment; :func:`join` reads that and connects. Sums and gathered objects go over gloo, gradients over whatever fits
their device.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gatepo.errors import UserError
from gatepo.slurm import torchrun_environment

Item = TypeVar("Item")
PERIOD, PATIENCE = 2.0, 30.0  # seconds between two signs of life, and without any until a rank counts as dead


@dataclass(frozen=True, slots=True)
class World:
    """This process among the others. ``World()`` is a process on its own, which talks to nobody."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's consecutive part; shares differ by one at the most, and together are all items in order."""
        bound = [len(items) * r // self.size for r in (self.rank, self.rank + 1)]
        return list(items[bound[0] : bound[1]])

    def gather(self, value: Item) -> list[Item]:
        """Every rank's value, in order, on every rank. Tensors should be on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Item) -> Item:
        """The first rank's value."""
        return self.gather(value)[0]

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all ranks, in float64."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def maximum(self, *values: float) -> list[float]:
        """The largest of each value over all ranks."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum(0.0)

    def _reduce(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        value_K = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(value_K, op=how)
        return value_K.tolist()


def place_in(environment: Mapping[str, str]) -> World | None:
    """Where the environment puts this process, or None where it was started on its own."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    return World(
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
    )


def join() -> World:
    """Connect to the other processes of this run, if there are any, and watch over them from now on."""
    os.environ.update(torchrun_environment(os.environ))
    world = place_in(os.environ)
    if world is None:
        return World()
    if torch.cuda.is_available():
        if world.local_rank >= torch.cuda.device_count():
            raise UserError(
                f"devices must be at most the {torch.cuda.device_count()} GPUs of this machine, got a process number "
                f"{world.local_rank}; lower devices"
            )
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(_backend(), timeout=timedelta(hours=2))  # a rollout may take long; the watch is quicker
    if world.size > 1:
        Watch(world).start()
    return world


def open_group() -> None:
    """A process group of one, for libraries that want a group in any case; nothing where there is one already."""
    if not dist.is_initialized():
        dist.init_process_group(_backend(), store=dist.HashStore(), rank=0, world_size=1)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"


@dataclass(slots=True)
class Watch:
    """Tells within :data:`PATIENCE` seconds when another rank has died, and ends this process then.

    A collective notices a broken connection, but neither says whose it was nor notices a host that fell silent. So
    each rank counts upwards in the run's key-value store, and looks at the counts of the others.
    """

    world: World
    die: Callable[[str], None] = field(default=lambda message: _die(message))
    _seen: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def start(self) -> None:
        """Meet the others, then watch in the background for as long as the process lives."""
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=PATIENCE),
        )
        names = self.world.gather(f"{socket.gethostname()}, process {os.getpid()}")
        store.set(_key(self.world.rank), "0")
        self.world.barrier()
        threading.Thread(target=self._run, args=(store, names), daemon=True, name="watch").start()

    def _run(self, store: dist.TCPStore, names: list[str]) -> None:
        others = [r for r in range(self.world.size) if r != self.world.rank]
        count = 0
        while True:
            time.sleep(PERIOD)
            count += 1
            try:
                store.set(_key(self.world.rank), str(count))
                found = dict(zip(others, store.multi_get([_key(r) for r in others]), strict=True))
            except RuntimeError as error:  # DistNetworkError, DistStoreError
                self.die(
                    f"the run's key-value store at {os.environ['MASTER_ADDR']}, beside rank 0 on {names[0]}, no longer "
                    f"answers ({' '.join(str(error).split())[:200]}): that host or rank 0 has died"
                )
                return
            silent = self.silent(found, time.monotonic())
            if silent is not None:
                self.die(
                    f"rank {silent} on {names[silent]} gave no sign of life for {PATIENCE:.0f} s: it or its host died"
                )
                return

    def silent(self, found: dict[int, bytes], now: float) -> int | None:
        """The first rank whose count has not changed for too long at ``now`` (seconds)."""
        for rank, count in found.items():
            if rank not in self._seen or self._seen[rank][0] != count:
                self._seen[rank] = (count, now)
            elif now - self._seen[rank][1] > PATIENCE:
                return rank
        return None


def _key(rank: int) -> str:
    return f"gatepo/alive/{rank}"


def _die(message: str) -> None:
    print(f"gatepo: {message}; this process stops", file=sys.stderr, flush=True)
    os._exit(3)  # the main thread may be waiting for the dead one forever
