"""Start-up and memory of a source as large as DeepMath-103K, and a tenth of it.

Generated rows: DeepMath's number (103,022) and seven fields, questions of forty words, three solutions of 6,500
characters, 2.7 GB of JSONL. Opened in a process of its own, with decontamination against 1,900 generated problems; then
10,000 rows are taken in random order. One process on one core; CPU seconds do not count waiting for the disk or others.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import peak_mib, row
from gatepo.data.decontamination import HeldOut
from gatepo.data.sources import Source, open_rows

ROWS, PROBLEMS, TAKEN = 103_022, 1_900, 10_000
MOST_SECONDS, MOST_MIB = 10.0, 64.0  # the marks: of start-up, and of memory above that of the imports
WORDS = [f"{a}{b}" for a in ("alpha", "gamma", "prime", "x", "matrix", "ring") for b in range(400)]


def write(path: Path, rows: int, solution: int) -> None:
    """A file of ``rows`` rows, each with three solutions of ``solution`` characters."""
    rng = random.Random(0)
    beside = {"difficulty": 5.0, "topic": "Mathematics -> Algebra", **{f"r1_solution_{n}": "" for n in (1, 2, 3)}}
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = (" ".join(rng.choices(WORDS, k=16)) + ".\n") * (solution // 100)
            beside |= {f"r1_solution_{n}": text for n in (1, 2, 3)}
            record = {"question": " ".join(rng.choices(WORDS, k=40)), "final_answer": str(number), **beside}
            file.write(json.dumps(record) + "\n")


def measure(path: Path) -> None:
    """Open, take, and print what it took; in a process of its own."""
    rng = random.Random(1)
    held_out = HeldOut(" ".join(rng.choices(WORDS, k=40)) for _ in range(PROBLEMS))
    source = Source(path=str(path), answer="final_answer")
    before, start, busy = peak_mib(), time.perf_counter(), time.process_time()
    rows = open_rows("made", source, keep=lambda found: not held_out.holds(found.question))
    opened, busy = time.perf_counter(), time.process_time() - busy
    for _ in range(TAKEN):
        assert rows[rng.randrange(len(rows))].answer
    took = time.perf_counter() - opened
    found = {"rows": len(rows), "open": opened - start, "cpu": busy, "take": took / TAKEN}
    print(json.dumps(found | {"memory": peak_mib() - before}))


def rows() -> list[dict[str, Any]]:
    """Start-up and memory of all rows, of a tenth of them, and of all without their solutions."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for key, number, solution in (("tenth", ROWS // 10, 6_500), ("bare", ROWS, 0), ("whole", ROWS, 6_500)):
            path = Path(folder) / "made.jsonl"
            write(path, number, solution)
            command = [sys.executable, "-m", "benchmarks.data", str(path)]
            did = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            assert did["rows"] == number
            name = f"{number:,} rows, {path.stat().st_size / 1e6:,.0f} MB"
            found += [
                row(f"{key}_seconds", f"{name}: start-up", did["open"], MOST_SECONDS, "s"),
                row(f"{key}_cpu", f"{name}: start-up, CPU", did["cpu"], MOST_SECONDS, "s"),
                row(f"{key}_memory", f"{name}: memory", did["memory"], MOST_MIB, "MiB"),
            ]
            print(f"{name}: {1e6 * did['take']:.0f} microseconds to take a row", flush=True)
    return found


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
