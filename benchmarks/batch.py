"""A rollout batch and its two updates: gatepo, TRL and what cannot be left out, in turn.

Every side runs in a process of its own, in the order ours, TRL, floor, ours, ... so that a machine that grows slower
slows all of them. Ratios compare medians over all rollout batches of all rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import shape
from benchmarks.rows import row
from benchmarks.sides import SIDES

Results = dict[str, list[dict[str, Any]]]
PARTS = {"rollout": "generation", "train": "both updates", "other": "neither generation nor update"}
MOST_BESIDE = 0.05  # the mark: share of a step that is neither generation nor update


def rows(rounds: int = 3, batches: int = 8) -> list[dict[str, Any]]:
    """Measure all sides, ``rounds`` times ``batches`` rollout batches; the first of each round is not counted."""
    found: Results = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        shape.write(Path(name))
        for number in range(rounds):
            for side in SIDES:
                found[side].append(measure(side, Path(name), batches))
                middle = median(found[side][-1]["seconds"])
                print(f"round {number + 1} {side:<8} {middle:.3f} s a rollout batch", flush=True)
    return compared(found)


def measure(side: str, folder: Path, batches: int) -> dict[str, Any]:
    """One round of one side."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.sides", side, str(folder), str(batches)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    if process.returncode != 0:
        raise SystemExit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def compared(found: Results) -> list[dict[str, Any]]:
    """The rows of what was measured."""
    seconds = {side: median(s for result in found[side] for s in result["seconds"]) for side in SIDES}
    peak = {side: median(result["peak"] for result in found[side]) for side in SIDES}
    spent = {side: spent_by(found[side]) for side in ("ours", "trl", "floor")}
    beside = spent["ours"]["other"] / sum(spent["ours"].values())
    ours, trl, floor, products = (seconds[side] for side in ("ours", "trl", "floor", "products"))
    return [
        row("trl", "rollout batch, against TRL 1.16", ours, trl, "s"),
        row("memory", "peak memory, against TRL 1.16", peak["ours"], peak["trl"], "MiB"),
        row("floor", "rollout batch, against the bare floor", ours, floor, "s"),
        row("products", "rollout batch, against its matrix products alone", ours, products, "s"),
        row("floor_trl", "the bare floor alone, against TRL 1.16", floor, trl, "s"),
        row("products_trl", "matrix products alone, against TRL 1.16", products, trl, "s"),
        row("beside", "neither generation nor update, of a step, against the mark", beside, MOST_BESIDE, "1"),
        *(
            row(f"{part}_{side}", f"{words}, against {name}", spent["ours"][part], spent[side][part], "s")
            for side, name in (("trl", "TRL 1.16"), ("floor", "the bare floor"))
            for part, words in PARTS.items()
        ),
    ]


def spent_by(results: list[dict[str, Any]]) -> dict[str, float]:
    """Give the seconds of a side's rollout batch by part; whatever is neither generation nor update is ``other``."""
    spent = {part: median(r["spent"][part] for r in results) for part in results[0]["spent"]}
    named = {part: spent.pop(part) for part in ("rollout", "train")}
    return {**named, "other": sum(spent.values())}
