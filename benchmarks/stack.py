"""Samplers and trainers beside each other: seconds of a rollout batch by engine pair, and of a weight sync.

The embedded default on the command line, each pair in a process of its own, all pairs in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rows import row

PLAIN = ("transformers", "torch")
PAIRS = (PLAIN, ("vllm", "torch"), ("transformers", "deepspeed"), ("vllm", "deepspeed"))
ITERATIONS = 2


def measure(pair: tuple[str, str], batches: int) -> list[dict[str, float]]:
    """The metrics of every update but those of the first rollout batch."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"rollout={pair[0]}", f"engine={pair[1]}", f"updates={batches * ITERATIONS}", "evaluate.limit=1"]
        command = [sys.executable, "-m", "gatepo.train", *arguments, f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[ITERATIONS:]]


def rows(rounds: int = 3, batches: int = 8) -> list[dict[str, Any]]:
    """Three rows per pair: against plain PyTorch; its sync and its orchestration, against its own rollout batch."""
    missing = [name for name in ("vllm", "deepspeed") if find_spec(name) is None]
    if missing:
        print(f"engine pairs: left out, {' and '.join(missing)} not installed (make .venv/test)")
        return []
    found: dict[tuple[str, str], list[dict[str, float]]] = {pair: [] for pair in PAIRS}
    for _ in range(rounds):
        for pair in PAIRS:
            found[pair] += measure(pair, batches)
    seconds = {pair: ITERATIONS * sum(m["step_time"] for m in ms) / len(ms) for pair, ms in found.items()}
    result = []
    for pair, metrics in found.items():
        name, key = " + ".join(pair), "_".join(pair)
        words = f"rollout batch, {name} against {' + '.join(PLAIN)}"
        result.append(row(key, words, seconds[pair], seconds[PLAIN], "s"))
        sync = median(m["time/sync"] for m in metrics[::ITERATIONS])
        result.append(row(f"{key}_sync", f"weight sync of a rollout batch, {name}", sync, seconds[pair], "s"))
        updates = [m["time/sync"] + m["time/reward"] + m["time/telemetry"] + m["time/other"] for m in metrics]
        other = sum(median(updates[first::ITERATIONS]) for first in range(ITERATIONS))
        words = f"neither generation nor update of a rollout batch, {name}"
        result.append(row(f"{key}_beside", words, other, seconds[pair], "s"))
    return result
