"""A folder that one process alone writes into: it holds a lock there, which ends with it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepo.errors import UserError

log = logging.getLogger(__name__)
FILE = ".claim"
PATIENCE, PAUSE = 3.0, 0.1  # seconds: a process that was killed takes some to be gone, and another may only have looked
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_held: set[int] = set()  # descriptors, which a forked child must not keep: the lock would live as long as it does


@contextmanager
def held(folder: Path, key: str) -> Iterator[None]:
    """Hold a folder that exists; the claim of a process that is gone does not count.

    Args:
      folder: the folder.
      key: of the setting that names it, for the message.
    Raises:
      UserError: another process holds it.
    """
    descriptor = _open(folder, key)
    _held.add(descriptor)
    try:
        _lock(descriptor, folder, key)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def refuse_if_held(folder: Path, key: str) -> None:
    """Look whether another process holds a folder, before anything is written there.

    Raises:
      UserError: it does.
    """
    if not os.access(folder / FILE, os.R_OK | os.W_OK):  # there was no process, or it is refused where it writes
        return
    descriptor = _open(folder, key)
    try:
        _lock(descriptor, folder, key)
    finally:
        os.close(descriptor)


def _open(folder: Path, key: str) -> int:
    """Open the file of the lock, which is emptied later: a link that somebody else put there leads to no other file."""
    try:
        return os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UserError(
            f"{key} must be a folder whose {FILE} is a file, got {folder}, where it is a link; remove it"
        ) from error


def _lock(descriptor: int, folder: Path, key: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            log.warning("the file system of %s has no locks: nothing keeps a second process out of it", folder)
            return
    owner = (folder / FILE).read_text(encoding="utf-8", errors="replace").strip() or "another process"
    raise UserError(
        f"{key} must be a folder that no other process writes into, got {folder}, which {owner} holds; "
        "wait for its end, or choose another"
    )


def _forget() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
