"""A long run, whose memory must not grow: ``python -m tests.faults.soak FILE UPDATES [WORDS ...]``.

The policy hardly moves (lr 1e-12), so that the work of every update is the same. Appends a line of JSON to FILE.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.faults.runs import REPO

WORDS = ("optimizer.lr=1e-12", "batch.prompts=8", "checkpoint.every=50", "threads=1", "evaluate.limit=8")
SETTLED, WINDOW = 200, 100  # updates until memory is what the run needs; updates whose median is taken
GROWTH = 0.02


def main() -> None:
    """Entry point; the exit code says whether memory grew by 2% or more."""
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
            mib_of = watch(run, folder / "metrics.jsonl")
        if run.returncode:
            sys.exit(Path(name, "said").read_text()[-2000:])
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = {"kind": "soak", "words": words} | summary(mib_of, [r["step_time"] for r in rows])
    with Path(file).open("a") as lines:
        lines.write(json.dumps(found) + "\n")
    print(json.dumps(found))
    sys.exit(int(found["growth"] >= GROWTH))


def watch(run: subprocess.Popen[bytes], metrics: Path) -> dict[int, float]:
    """Give the memory of the run with all that it started, MiB, by the update after which it was read."""
    found: dict[int, float] = {}
    while run.poll() is None:
        time.sleep(0.5)
        done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        mib = sum(proportional_mib(pid) for pid in (run.pid, *descendants(run.pid)))
        if done and run.poll() is None:
            found[done] = mib
    return found


def summary(mib_of: dict[int, float], seconds: list[float]) -> dict[str, float]:
    """Compare the last updates with those after the first 200."""
    last = max(mib_of)
    early = median(mib for update, mib in mib_of.items() if SETTLED <= update < SETTLED + WINDOW)
    late = median(mib for update, mib in mib_of.items() if update > last - WINDOW)
    before, after = median(seconds[SETTLED : SETTLED + WINDOW]), median(seconds[-WINDOW:])
    return {"mib": round(early, 1), "growth": round(late / early - 1, 4), "step_time_ratio": round(after / before, 3)}


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
