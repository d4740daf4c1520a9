"""The embedded model and data: nothing to download, and small enough for a laptop's processor."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PREFIX = "tiny:"


def locate(path: str) -> str:
    """Find ``tiny``, the embedded model's folder, and ``tiny:NAME``, an embedded data set; others stay."""
    if path == "tiny":
        return str(FOLDER / "model")
    if path.startswith(PREFIX):
        return str(FOLDER / "data" / f"{path.removeprefix(PREFIX)}.jsonl")
    return path
