"""A long run, whose memory must not grow: ``python -m tests.faults.soak FILE UPDATES [WORDS ...]``.

The policy hardly moves (lr 1e-12), so that the work of every update is the same. Appends a line of JSON to FILE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.faults.runs import REPO

WORDS = ("optimizer.lr=1e-12", "batch.prompts=8", "checkpoint.every=50", "threads=1", "evaluate.limit=8")
SETTLED, WINDOW = 200, 100  # updates until memory is what the run needs; updates whose median is taken
GROWTH, SLOWER = 0.02, 1.05


def main() -> None:
    """Entry point; the exit code says whether memory grew by 2% or more, or an update's time by 5% or more."""
    file, updates, *words = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name) / "run"
        command = [
            sys.executable,
            "-m",
            "gatepo.train",
            *WORDS,
            f"updates={updates}",
            f"hydra.run.dir={folder}",
            *words,
        ]
        with Path(name, "said").open("wb") as said:
            run = subprocess.Popen(command, cwd=REPO, stdout=said, stderr=said)
            seen = watch(run, folder / "metrics.jsonl")
        if run.returncode:
            sys.exit(Path(name, "said").read_text()[-2000:])
    found = {"kind": "soak", "words": words} | summary(run.pid, seen)
    with Path(file).open("a") as lines:
        lines.write(json.dumps(found) + "\n")
    print(json.dumps(found))
    sys.exit(int(found["growth"] >= GROWTH or found["step_time_ratio"] >= SLOWER))


class Seen(NamedTuple):
    """What a process was seen to have."""

    mib: float
    seconds: float  # of processor time, since its start: on a shared machine the clock says less


def watch(run: subprocess.Popen[bytes], metrics: Path) -> dict[int, dict[int, Seen]]:
    """Look at each process of the run again and again: [update after which it was][process]."""
    found: dict[int, dict[int, Seen]] = {}
    while run.poll() is None:
        time.sleep(0.5)
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        seen = {pid: Seen(proportional_mib(pid), seconds(pid)) for pid in (run.pid, *descendants(run.pid))}
        if done and run.poll() is None:
            found[done] = seen
    return found


def summary(run: int, seen: dict[int, dict[int, Seen]]) -> dict[str, Any]:
    """Compare the last updates with those after the first 200, of the run or of a process that it started later.

    A worker that the reward starts when an answer first needs one is no growth; that it grows itself would be.
    """
    last = max(seen)
    processes = [process(seen, pid) for pid in seen[last]]
    growth = max(found["growth"] for found in processes if found["growth"] is not None)
    ended = last - 1  # what is seen after the last update has the evaluation and the figures behind it too
    before, after = (cost(seen, run, first) for first in (SETTLED, ended - WINDOW))
    return {"updates": last, "growth": growth, "step_time_ratio": round(after / before, 3), "processes": processes}


def process(seen: dict[int, dict[int, Seen]], pid: int) -> dict[str, Any]:
    """Give when a process was first seen, its memory at the end, and by how much that grew since it had settled."""
    mib_of = {update: found[pid].mib for update, found in seen.items() if pid in found}
    first, last = min(mib_of), max(mib_of)
    settled = SETTLED if first < SETTLED else first + SETTLED
    early = [mib for update, mib in mib_of.items() if settled <= update < settled + WINDOW]
    late = median(mib for update, mib in mib_of.items() if update > last - WINDOW)
    grown = round(late / median(early) - 1, 4) if early and last - WINDOW >= settled else None
    return {"since": first, "mib": round(late, 1), "growth": grown}


def cost(seen: dict[int, dict[int, Seen]], run: int, first: int) -> float:
    """Give the seconds of processor time of one update, over so many from ``first`` on."""
    within = [update for update in seen if first <= update <= first + WINDOW]
    begun, ended = min(within), max(within)
    return (seen[ended][run].seconds - seen[begun][run].seconds) / (ended - begun)


def seconds(pid: int) -> float:
    """Give the processor time of a process, over its threads; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def proportional_mib(pid: int) -> float:
    """Give the memory of a process that no file backs, with its share of what it shares; 0 once it has ended.

    Pages of libraries would count less the more processes of others share them.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:")), 0.0)


def descendants(pid: int) -> list[int]:
    """Give the processes that a process has started, and those that they have."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, listed) for found in (child, *descendants(child))]


if __name__ == "__main__":
    main()
