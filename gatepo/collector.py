"""Python's collector of garbage, kept away from what finds none."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def still() -> Iterator[None]:
    """Collect nothing within, and look through nothing that is here by then until the process ends.

    Imports make a million objects that all stay: looking through them takes a second or two of a start.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain of what they still find at the very end
        if was_on:
            gc.enable()
