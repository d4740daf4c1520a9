"""How the C library keeps freed memory."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the process keep what it frees, up to 2 GiB, where the C library is glibc; elsewhere nothing changes.

    By default each large activation is a mapping of its own, given back when it is freed and cleared page by page when
    the next micro-batch asks for it again: a seventh of an update on two cores. Resident memory does not shrink
    between updates then; its peak stays what it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
