"""``python -m benchmarks.data``: start-up and memory of a source as large as DeepMath-103K, and a tenth of it.

Generated rows: DeepMath's number (103,022) and seven fields, questions of forty words, three solutions of 6,500
characters, 2.7 GB of JSONL. Opened in a process of its own, with decontamination against 1,900 generated problems; then
10,000 rows are taken in random order. One process on one core; CPU seconds do not count waiting for the disk or others.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import row
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
    before, start, busy = _resident_mib(), time.perf_counter(), time.process_time()
    rows = open_rows("made", source, keep=lambda found: not held_out.holds(found.question))
    opened, busy = time.perf_counter(), time.process_time() - busy
    for _ in range(TAKEN):
        assert rows[rng.randrange(len(rows))].answer
    took = time.perf_counter() - opened
    found = {"rows": len(rows), "open": opened - start, "cpu": busy, "take": took / TAKEN}
    print(json.dumps(found | {"memory": _resident_mib() - before}))


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        return measure(options.measure)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for rows, solution in ((ROWS // 10, 6_500), (ROWS, 0), (ROWS, 6_500)):
            path = Path(folder) / "made.jsonl"
            write(path, rows, solution)
            command = [sys.executable, "-m", "benchmarks.data", "--measure", str(path)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            assert found["rows"] == rows
            name = f"{rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB"
            lines.append(row(f"{name}: start-up", found["open"], MOST_SECONDS, "s"))
            lines.append(row(f"{name}: start-up, CPU", found["cpu"], MOST_SECONDS, "s"))
            lines.append(row(f"{name}: memory", found["memory"], MOST_MIB, "MiB"))
            print(f"{name}: {1e6 * found['take']:.0f} microseconds to take a row", flush=True)
    for r in lines:
        print(f"{r['name']:<50}{r['ours']:>10.2f}{r['other']:>10.2f}{r['ratio']:>12.3f}  {r['unit']}")


if __name__ == "__main__":
    main()
