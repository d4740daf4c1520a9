"""What those that start the processes of a run say to them, in their environment."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DIES_WITH_PARENT = "GATEPO_DIES_WITH_PARENT"  # set in the environment of a process that must not outlive its parent
COMMAND = "GATEPO_COMMAND"  # what the user typed, for the processes that are started from it
LAUNCHED = "GATEPO_LAUNCHED"  # set in the environment of the ranks that gatepo.launch starts
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens; on Linux."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before that
            sys.exit(1)


@contextmanager
def given(variables: Mapping[str, str]) -> Iterator[None]:
    """Give these variables to the processes started within, and not to the next job of a multirun."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
