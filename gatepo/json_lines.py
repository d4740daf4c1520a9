"""Files of one JSON object a line, of which a dying process may leave the last line half-written: that is no line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from gatepo import durable


def rows(path: Path) -> list[Any]:
    """Read the objects of all whole lines; none where there is no file."""
    return [json.loads(line) for line in _whole_lines(path)]


def open_to_append(path: Path, keep: Callable[[Any], bool] = lambda row: True) -> IO[str]:
    """Open the file behind its last whole line.

    Args:
      path: the file; it is made where there is none.
      keep: says of each object whether its line stays; the others are taken out first.
    """
    kept = [line for line in _whole_lines(path) if keep(json.loads(line))]
    partial = durable.partial_of(path)
    with durable.room_for(path, sum(map(len, kept))):
        partial.write_bytes(b"".join(kept))
        durable.publish(partial, path)
    return path.open("a", encoding="utf-8")


def append(file: IO[str], line: str) -> None:
    """Write a line to a file that :func:`open_to_append` opened, without waiting for the next.

    Raises:
      UserError: the disk is full.
    """
    with durable.room_for(Path(file.name), len(line.encode()) + 1):
        file.write(line + "\n")
        file.flush()


def _whole_lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]
