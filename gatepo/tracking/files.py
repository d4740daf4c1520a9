"""``metrics.jsonl`` and ``completions.jsonl``: one JSON object per line, flushed as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gatepo.json_lines import append, open_to_append


class UpdateLog:
    """A file with lines of updates.

    Args:
      path: the file. Rows of a run that was interrupted stay, as far as ``update``.
      update: rows that belong to a later one are taken out; they will be written again.
    """

    def __init__(self, path: Path, update: int) -> None:
        self._file = open_to_append(path, keep=lambda row: row["update"] <= update)

    def write(self, row: Mapping[str, object]) -> None:
        """Append one object; numbers keep all their digits."""
        append(self._file, json.dumps(row, ensure_ascii=False))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileTracker:
    """One line of ``metrics.jsonl`` per update."""

    def __init__(self, path: Path, update: int) -> None:
        self._lines = UpdateLog(path, update)

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.write({"update": update, **metrics})

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._lines.close()
