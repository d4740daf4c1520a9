"""Short runs of the embedded default: two at a time on one thread each, and one by one on two threads, in turn."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.rows import row

JOBS = 4  # of one multirun
WORDS = {"two at a time": ("jobs=2", "threads=1"), "one by one": ("jobs=1", "threads=2")}


def rows(rounds: int = 3, batches: int = 8) -> list[dict[str, Any]]:
    """Measure both, ``rounds`` times; a run makes 2 updates for each of ``batches``, between two short evaluations."""
    found: dict[str, list[float]] = {name: [] for name in WORDS}
    for number in range(rounds):
        for name, words in WORDS.items():
            found[name].append(seconds(words, 2 * batches))
            print(f"round {number + 1} {name:<14} {found[name][-1]:.1f} s", flush=True)
    ours, other = (median(found[name]) for name in WORDS)
    what = f"{JOBS} runs of {2 * batches} updates: jobs=2 threads=1, other jobs=1 threads=2"
    return [row("jobs", what, ours, other, "s")]


def seconds(words: tuple[str, ...], updates: int) -> float:
    """Time one multirun from its command to its end."""
    with tempfile.TemporaryDirectory() as name:
        seeds = f"seed=range({JOBS})"
        command = [sys.executable, "-m", "gatepo.train", "-m", seeds, f"updates={updates}", "evaluate.limit=20", *words]
        begun = perf_counter()
        subprocess.run([*command, f"hydra.sweep.dir={Path(name) / 'sweep'}"], check=True, capture_output=True)
        return perf_counter() - begun
