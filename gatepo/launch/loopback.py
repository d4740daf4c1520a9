"""Where the processes of a run on one host meet: a store that nobody from outside can reach."""

from __future__ import annotations

from functools import cache

import torch.distributed as dist
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

from gatepo.world import LOCALHOST, store_on_loopback

BACKEND = "gatepo-loopback"


@cache
def register() -> str:
    """Make the meeting place known to torch's launcher, and give its name there."""
    rendezvous_handler_registry.register(BACKEND, OnLoopback)
    return BACKEND


class OnLoopback(RendezvousHandler):
    """The only agent of a run meets itself; its ranks use the same store."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run = parameters.run_id
        self._store = store_on_loopback()

    def get_backend(self) -> str:
        """See :class:`RendezvousHandler`."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """See :class:`RendezvousHandler`."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """See :class:`RendezvousHandler`."""
        place = RendezvousStoreInfo(LOCALHOST, self._store.port)
        return RendezvousInfo(dist.PrefixStore(self._run, self._store), 0, 1, place)

    def is_closed(self) -> bool:
        """See :class:`RendezvousHandler`."""
        return False

    def set_closed(self) -> None:
        """See :class:`RendezvousHandler`; nobody else could come."""

    def num_nodes_waiting(self) -> int:
        """See :class:`RendezvousHandler`."""
        return 0

    def get_run_id(self) -> str:
        """See :class:`RendezvousHandler`."""
        return self._run

    def shutdown(self) -> bool:
        """See :class:`RendezvousHandler`."""
        return True
