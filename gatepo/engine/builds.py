"""Parts of DeepSpeed that are compiled when they are first used, and the locks that a killed build leaves.

torch lets one process build and the others wait for its lock file to go (torch/utils/file_baton.py), for ever: where
the one is killed, every later run would stand still without a word.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
COMPILED = ("deepspeed_shm_comm", "cpu_adam")  # what our engine may have DeepSpeed compile
QUIET = 300.0  # seconds without a new file after which no other host builds there, with which this one shares a disk
PAUSE = 1.0


def free_abandoned(names: Sequence[str] = COMPILED) -> None:
    """Remove the locks of builds that nobody goes on with; one process of a host calls this, and the others wait.

    A lock that a process of this machine has open is left alone, and so is one of another host that still writes.
    """
    from torch.utils.cpp_extension import get_default_build_root  # slow to import

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    for name in names:
        for lock in (*root.glob(f"{name}/lock"), *root.glob(f"*/{name}/lock")):
            _free(lock)


def _free(lock: Path) -> None:
    said = False
    while lock.exists() and lock.resolve() not in _open_here():
        quiet = time.time() - max(_written(lock.parent), default=time.time())
        if quiet >= QUIET:
            lock.unlink(missing_ok=True)
            log.warning("removed %s, which a build that was killed had left", lock)
            return
        if not said:
            said = True
            log.warning(
                "waiting for up to %.0f s: no process of this machine holds %s; if none of another one that shares "
                "this disk does, remove that file",
                QUIET - quiet,
                lock,
            )
        time.sleep(PAUSE)


def _written(folder: Path) -> Iterator[float]:
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # the build goes on meanwhile
            yield file.stat().st_mtime


def _open_here() -> set[Path]:
    """List the files that the processes of this machine have open, as far as this user may see them."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found.add(Path(os.readlink(link)))
    return found
