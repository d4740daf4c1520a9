"""The processes of one run: who they are, what they send each other, and how the death of one ends the others.

One process per device. Whoever starts them (``devices=N``, torchrun, SLURM) describes each one's place in its
environment; :func:`join` reads that and connects. Sums and gathered objects go over gloo, gradients over whatever fits
their device.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch

from gatepo import signals
from gatepo.errors import Interrupted, UserError
from gatepo.launch.environment import LAUNCHED
from gatepo.launch.slurm import torchrun_environment

Item = TypeVar("Item")
BROKEN_CONNECTION = ("Connection closed by peer", "Connection reset", "Broken pipe", "Connection refused")  # gloo's
LOCALHOST = "127.0.0.1"
LOOPBACK = ("lo", "lo0")  # of Linux; of macOS
PERIOD, PATIENCE = 2.0, 30.0  # seconds between two signs of life, and without any until a rank counts as dead


@dataclass(frozen=True, slots=True)
class World:
    """This process among the others. ``World()`` is a process on its own, which talks to nobody."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    watch: Watch | None = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Take this rank's consecutive part; shares differ by one at the most, and are all items in order together."""
        bound = [len(items) * r // self.size for r in (self.rank, self.rank + 1)]
        return list(items[bound[0] : bound[1]])

    def gather(self, value: Item) -> list[Item]:
        """Collect every rank's value, in order, on every rank. Tensors should be on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: Item) -> Item:
        """Take the first rank's value."""
        return self.gather(value)[0]

    def sum(self, *values: float) -> list[float]:
        """Sum each value over all ranks, in float64."""
        return self._reduce(values, torch.distributed.ReduceOp.SUM)

    def maximum(self, *values: float) -> list[float]:
        """Take the largest of each value over all ranks."""
        return self._reduce(values, torch.distributed.ReduceOp.MAX)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum(0.0)

    def stop_if_asked(self) -> None:
        """Leave the work in hand on every rank, where any of them was asked to; they all come here at the same point.

        Raises:
          Interrupted: one was.
        """
        number = int(self.maximum(signals.asked())[0])
        if number:  # a signal that came since then waits for the next time
            signals.ask(number)
            signals.stop_if_asked()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let each rank leave the block where it can be left, without waiting for others there; then all leave."""
        with suppress(Interrupted):
            yield
        self.stop_if_asked()

    def name_the_dead(self, error: BaseException) -> None:
        """Give the watch the seconds it needs to say which rank is gone, where the error is a broken connection."""
        if self.watch is not None and is_broken_connection(error):
            self.watch.hurry()

    def _reduce(self, values: Sequence[float], how: torch.distributed.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        value_K = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(value_K, op=how)
        return value_K.tolist()


def is_broken_connection(error: BaseException) -> bool:
    """Say whether an error is that of a rank whose partner is gone."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BROKEN_CONNECTION)


def place_in(environment: Mapping[str, str]) -> World | None:
    """Say where the environment puts this process, or None where it was started on its own."""
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
    backend, patience = _backend(), timedelta(hours=2)  # a rollout may take long; the watch is quicker
    if on_one_host(os.environ):
        stay_on_loopback()
    if on_one_host(os.environ) and not torch.distributed.is_torchelastic_launched():  # its agent has a store already
        os.environ["MASTER_ADDR"] = LOCALHOST
        torch.distributed.init_process_group(backend, None, patience, world.size, world.rank, _store(world))
    else:
        torch.distributed.init_process_group(backend, timeout=patience)
    if world.size == 1:
        return world
    watch = Watch(world)
    watch.start()
    return replace(world, watch=watch)


def on_one_host(environment: Mapping[str, str]) -> bool:
    """Say whether all processes of the run are on this host, as far as whoever started them says where they are."""
    here, nodes = environment.get("LOCAL_WORLD_SIZE"), environment.get("SLURM_STEP_NUM_NODES")
    return nodes == "1" if here is None else here == environment["WORLD_SIZE"]


def stay_on_loopback() -> None:
    """Have gloo and NCCL listen where no other host can reach them, unless the user has chosen an interface."""
    for _, name in socket.if_nameindex():
        if name in LOOPBACK:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def store_on_loopback(port: int = 0) -> torch.distributed.TCPStore:
    """Open a key-value store that this host alone can reach; torch itself would listen on all of its addresses.

    Args:
      port: where it listens; 0 takes one that is free.
    """
    listener = socket.create_server((LOCALHOST, port))
    port = listener.getsockname()[1]
    return torch.distributed.TCPStore(
        LOCALHOST, port, None, True, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def _store(world: World) -> torch.distributed.TCPStore:
    port = int(os.environ["MASTER_PORT"])
    return store_on_loopback(port) if world.first else torch.distributed.TCPStore(LOCALHOST, port)


def open_group() -> None:
    """Open a process group of one, for libraries that want a group in any case; nothing where there is one."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(_backend(), store=torch.distributed.HashStore(), rank=0, world_size=1)


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"


@dataclass(slots=True)
class Watch:
    """A watch notices within ``patience`` seconds that another rank has died, and ends this process then.

    A collective notices a broken connection, but neither says whose it was nor notices a host that fell silent. So
    each rank counts upwards in the run's key-value store, and looks at the counts of the others.
    """

    world: World
    patience: float = PATIENCE
    die: Callable[[str], None] = field(default=lambda message: _die(message))
    _seen: dict[int, tuple[bytes, float]] = field(default_factory=dict)
    _answered: float = 0.0

    def start(self) -> None:
        """Meet the others, then watch in the background for as long as the process lives."""
        store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=PATIENCE),
        )
        names = self.world.gather(f"{socket.gethostname()}, process {os.getpid()}")
        store.set(_key(self.world.rank), "0")
        self.world.barrier()
        self._answered = time.monotonic()
        for task in (self._talk, self._guard):
            threading.Thread(target=task, args=(store, names), daemon=True, name="watch").start()

    def hurry(self) -> None:
        """Wait for the verdict, which now comes after a few missed signs: something is wrong already."""
        self.patience = 3 * PERIOD
        time.sleep(6 * PERIOD)

    def _talk(self, store: torch.distributed.TCPStore, names: list[str]) -> None:
        others = [r for r in range(self.world.size) if r != self.world.rank]
        count = 0
        while True:
            time.sleep(PERIOD)
            count += 1
            try:
                store.set(_key(self.world.rank), f"{count} {signals.asked()}")
                found = dict(zip(others, store.multi_get([_key(r) for r in others]), strict=True))
            except RuntimeError:  # DistNetworkError, DistStoreError: the guard counts the seconds without an answer
                continue
            self._answered = time.monotonic()
            signals.ask(max(asked_in(count) for count in found.values()))
            silent = self.silent(found, self._answered)
            if silent is not None:
                self.die(
                    f"rank {silent} on {names[silent]} gave no sign of life for {self.patience:.0f} s: it or its host "
                    "died"
                )
                return

    def _guard(self, store: torch.distributed.TCPStore, names: list[str]) -> None:
        """A thread of its own, because a call to a store on a silent host may hang beyond every time-out."""
        while time.monotonic() - self._answered <= self.patience:
            time.sleep(PERIOD / 2)
        self.die(
            f"the key-value store on {os.environ['MASTER_ADDR']}, the host of rank 0 ({names[0]}), gave no answer for "
            f"{self.patience:.0f} s: that host or rank 0 died"
        )

    def silent(self, found: dict[int, bytes], now: float) -> int | None:
        """Give the first rank whose count has not changed for too long at ``now`` (seconds)."""
        for rank, count in found.items():
            if rank not in self._seen or self._seen[rank][0] != count:
                self._seen[rank] = (count, now)
            elif now - self._seen[rank][1] > self.patience:
                return rank
        return None


def asked_in(count: bytes) -> int:
    """Give the signal by which a rank was asked to stop, which stands behind its count; or 0."""
    return int(count.partition(b" ")[2] or 0)


def _key(rank: int) -> str:
    return f"gatepo/alive/{rank}"


def _die(message: str) -> None:
    print(f"\ngatepo: {message}; this process stops", file=sys.stderr, flush=True)
    if "TORCHELASTIC_RUN_ID" in os.environ and LAUNCHED not in os.environ:
        # torchrun itself would wait for minutes for the dead host; our own launcher is on this host and does not.
        os.kill(os.getppid(), signal.SIGKILL)
    os._exit(3)  # the main thread may be waiting for the dead one forever
