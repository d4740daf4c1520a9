"""Files that outlive a power cut: a final name appears only once all that it names is on the disk.

A rename alone does not do that: it may reach the disk before the content does, and the name then stands for empty
files.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepo.errors import UserError

PARTIAL = ".partial"  # the end of a name that is not final yet
FULL = ("No space left on device", "Disk quota exceeded")  # of safetensors, which raises no OSError
FAILED = ("unexpected pos", "iostream error", "PytorchStreamWriter failed")  # of torch


def partial_of(final: Path) -> Path:
    """Give the name under which ``final`` is written until it is whole."""
    return final.with_name(final.name + PARTIAL)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8 in place of the one there was: after a power cut one of the two is there, whole.

    Raises:
      UserError: the disk is full.
    """
    partial = partial_of(path)
    with room_for(path, len(text.encode())):
        write_anew(partial, text.encode())
        publish(partial, path)


def write_anew(path: Path, content: bytes) -> None:
    """Write a file that is new: what has its name is removed, and not followed where it is a link to elsewhere."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)


@contextmanager
def room_for(path: Path, needed: int, partial: Path | None = None) -> Iterator[None]:
    """Have a full disk said in one line.

    Args:
      path: what is written within; a folder above it exists.
      needed: its bytes.
      partial: the folder that is removed where it does not fit.
    Raises:
      UserError: the disk is full.
    """
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    try:
        yield
    except Exception as error:
        if not _is_full(error, shutil.disk_usage(there).free < needed):
            raise
        if partial is not None and partial.exists():
            shutil.rmtree(partial)
        raise UserError(
            f"{path} needs {needed:,} bytes, and its disk is full, with {shutil.disk_usage(there).free:,} bytes free; "
            "make room. What was finished before is still there"
        ) from error


def _is_full(error: BaseException | None, short: bool) -> bool:
    """Say whether a full disk is behind an error; torch says only that writing failed, so that ``short`` decides."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in FULL) or (short and any(w in str(error) for w in FAILED)):
            return True
        error = error.__cause__ or error.__context__
    return False


def publish(partial: Path, final: Path) -> None:
    """Give a file or folder its final name: what it holds is on the disk before that, the name before this returns.

    A folder that had the name goes once the new one is safe.
    """
    flush_tree(partial)
    old = _leaving(final)
    if final.is_dir():  # a folder cannot be renamed over another
        final.rename(old)
    partial.rename(final)
    flush(final.parent)
    if old.is_dir():
        shutil.rmtree(old)


def discard(folder: Path) -> None:
    """Remove a folder; its name goes first, so that no half of it is ever there under that name."""
    old = _leaving(folder)
    folder.rename(old)
    shutil.rmtree(old)


def _leaving(folder: Path) -> Path:
    """Give a name for a folder that is about to be removed, and remove what a process that was cut off left there."""
    path = partial_of(folder.with_name(f"{folder.name}-old"))
    if path.is_dir():
        shutil.rmtree(path)
    return path


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, and bring their names to the disk."""
    path.mkdir(parents=True, exist_ok=True)
    flush_names(path)


def flush_names(path: Path) -> None:
    """Bring the names of a folder and of those above it to the disk, as far up as this user may read."""
    for folder in path.absolute().parents:
        if not os.access(folder, os.R_OK):
            return
        flush(folder)


def flush_tree(path: Path) -> None:
    """Bring a file, or a folder with everything in it, to the disk."""
    for below in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():  # a folder after what it holds
        flush(below)
    flush(path)


def flush(path: Path) -> None:
    """Bring the content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # a file system that has no such thing for folders
            raise
    finally:
        os.close(descriptor)
