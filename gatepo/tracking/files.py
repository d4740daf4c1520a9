"""``metrics.jsonl`` and ``completions.jsonl``: one JSON object per line, flushed as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO


class JsonLines:
    """Appends objects to a file, one line each."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, row: Mapping[str, object]) -> None:
        """Append one object; numbers keep all their digits."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileTracker:
    """One line of ``metrics.jsonl`` per update."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.write({"update": update, **metrics})

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.close()
