"""``metrics.jsonl`` and ``completions.jsonl``: one JSON object per line, flushed as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO


class JsonLines:
    """Appends objects to a file, one line each.

    Args:
      path: the file. Rows of a run that was interrupted stay, as far as ``update``.
      update: rows that belong to a later one are taken out; they will be written again.
    """

    def __init__(self, path: Path, update: int) -> None:
        kept = _rows_until(path, update) if path.is_file() else []
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.rename(path)
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, object]) -> None:
        """Append one object; numbers keep all their digits."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileTracker:
    """One line of ``metrics.jsonl`` per update."""

    def __init__(self, path: Path, update: int) -> None:
        self._lines = JsonLines(path, update)

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.write({"update": update, **metrics})

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.close()


def _rows_until(path: Path, update: int) -> list[str]:
    """Whole lines of updates up to ``update``; what a dying process left half-written is not one."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # splitlines would cut at U+2028 too
    return [f"{line}\n" for line in lines if json.loads(line)["update"] <= update]
