"""Files of one JSON object a line, of which a dying process may leave the last line half-written: that is no line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from gatepo import durable
from gatepo.errors import UserError


def rows(path: Path) -> list[dict[str, Any]]:
    """Read the objects of all whole lines; none where there is no file.

    Raises:
      UserError: a whole line is no JSON object.
    """
    return [_row(path, number, line) for number, line in enumerate(_whole_lines(path), 1)]


def open_to_append(path: Path, keep: Callable[[Any], bool] = lambda row: True) -> IO[str]:
    """Open the file behind its last whole line.

    Args:
      path: the file; it is made where there is none.
      keep: says of each object whether its line stays; the others are taken out first.
    """
    kept = [line for number, line in enumerate(_whole_lines(path), 1) if keep(_row(path, number, line))]
    partial = durable.partial_of(path)
    with durable.room_for(path, sum(map(len, kept))):
        durable.write_anew(partial, b"".join(kept))
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


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number} must be a JSON object, got a damaged line; take it out") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}:{number} must be a JSON object, got {type(found).__name__}; take it out")
    return found


def _whole_lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [line for line in file if line.endswith(b"\n")]
