"""One line of ``bench.json``."""

from __future__ import annotations

from typing import Any


def row(name: str, ours: float, other: float, unit: str) -> dict[str, Any]:
    """The ratio is ours over the other's, so less than 1 is better."""
    return {"name": name, "ours": ours, "other": other, "ratio": ours / other, "unit": unit}
