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
    spent = {part: median(r["spent"][part] for r in found["ours"]) for part in found["ours"][0]["spent"]}
    print("seconds by part: " + ", ".join(f"{part} {s:.3f}" for part, s in spent.items()))
    beside = (spent["sync"] + spent["reward"] + spent["telemetry"] + spent["other"]) / sum(spent.values())
    ours, trl, floor, products = (seconds[side] for side in ("ours", "trl", "floor", "products"))
    return [
        row("trl", "rollout batch, against TRL 1.16", ours, trl, "s"),
        row("memory", "peak memory, against TRL 1.16", peak["ours"], peak["trl"], "MiB"),
        row("floor", "rollout batch, against the bare floor", ours, floor, "s"),
        row("products", "rollout batch, against its matrix products alone", ours, products, "s"),
        row("floor_trl", "the bare floor alone, against TRL 1.16", floor, trl, "s"),
        row("products_trl", "matrix products alone, against TRL 1.16", products, trl, "s"),
        row("beside", "neither generation nor update, of a step, against the mark", beside, MOST_BESIDE, "1"),
    ]
