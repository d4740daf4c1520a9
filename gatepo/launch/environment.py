"""What those that start the processes of a run say to them, in their environment."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DIES_WITH_PARENT = "GATEPO_DIES_WITH_PARENT"  # the process that a job of a multirun must not outlive
COMMAND = "GATEPO_COMMAND"  # what the user typed, for the processes that are started from it
WORDS = "GATEPO_WORDS"  # those of it that choose the settings of this job
LAUNCHED = "GATEPO_LAUNCHED"  # the process that started this one as a rank, and which it must not outlive
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however that happens; on Linux.

    A job of a multirun is asked to stop, and leaves a checkpoint. Ranks are killed: what joins them is gone.
    """
    name, number = (LAUNCHED, signal.SIGKILL) if LAUNCHED in os.environ else (DIES_WITH_PARENT, signal.SIGTERM)
    if name in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != int(os.environ[name]):  # it was gone before that
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
