"""``python -m benchmarks``: gatepo, TRL and what cannot be left out, in turn; a table and ``bench.json``.

Every side runs in a process of its own, in the order ours, TRL, floor, ours, ... so that a machine that grows slower
slows all of them. Ratios compare medians over all rollout batches of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import gates, logprobs, shape, stack, verifier
from benchmarks.rows import row
from benchmarks.sides import SIDES


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help="rollout batches per round; the first is not counted")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()

    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        shape.write(Path(name))
        for number in range(options.rounds):
            for side in SIDES:
                found[side].append(measure(side, Path(name), options.batches))
                print(
                    f"round {number + 1} {side:<8} {median(found[side][-1]['seconds']):.3f} s a rollout batch",
                    flush=True,
                )

    seconds = {side: median(s for result in found[side] for s in result["seconds"]) for side in SIDES}
    peak = {side: median(result["peak"] for result in found[side]) for side in SIDES}
    spent = {part: median(r["spent"][part] for r in found["ours"]) for part in found["ours"][0]["spent"]}
    beside = (spent["sync"] + spent["reward"] + spent["telemetry"] + spent["other"]) / sum(spent.values())
    rows = [
        row("rollout batch, against TRL 1.16", seconds["ours"], seconds["trl"], "s"),
        row("peak memory, against TRL 1.16", peak["ours"], peak["trl"], "MiB"),
        row("rollout batch, against the bare floor", seconds["ours"], seconds["floor"], "s"),
        row("rollout batch, against its matrix products alone", seconds["ours"], seconds["products"], "s"),
        row("matrix products alone, against TRL 1.16", seconds["products"], seconds["trl"], "s"),
        {
            "name": "neither generation nor update, of a step",
            "ours": beside,
            "other": 0.05,
            "ratio": beside / 0.05,
            "unit": "1",
        },
    ]
    rows += stack.rows(options.rounds, options.batches) + logprobs.rows() + gates.rows() + verifier.rows()
    print(f"\n{'':<80}{'ours':>10}{'other':>10}{'ours/other':>12}")
    for r in rows:
        print(f"{r['name']:<80}{r['ours']:>10.3f}{r['other']:>10.3f}{r['ratio']:>12.2f}  {r['unit']}")
    print("seconds by part: " + ", ".join(f"{part} {s:.3f}" for part, s in spent.items()))
    options.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
