"""A number that follows from the texts of rows: other rows have another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


class Fingerprint:
    """Texts are added in their order."""

    def __init__(self) -> None:
        self._known = hashlib.blake2b(digest_size=8)

    def add(self, *texts: str) -> None:
        """Add texts; where one ends and the next begins counts too."""
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            self._known.update(len(content).to_bytes(8, "little") + content)

    def add_record(self, record: Mapping[str, Any]) -> None:
        """Add all fields of a row, whatever their order; what is no text counts as it is written in JSON."""
        for name in sorted(record):
            value = record[name]
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
            self.add(name, type(value).__name__, text)

    def __str__(self) -> str:
        return self._known.hexdigest()
