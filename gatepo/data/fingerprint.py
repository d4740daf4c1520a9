"""A number that follows from the texts of rows: other rows have another one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


class Fingerprint:
    """Texts are added in their order."""

    def __init__(self) -> None:
        self._known = hashlib.blake2b(digest_size=8)

    def add(self, *texts: str) -> None:
        """Add texts; where one ends and the next begins counts too."""
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            self._known.update(len(content).to_bytes(8, "little") + content)

    def __str__(self) -> str:
        return self._known.hexdigest()


def fingerprint_of(texts: Iterable[str]) -> str:
    """Give the 16 hexadecimal digits of texts."""
    found = Fingerprint()
    found.add(*texts)
    return str(found)
