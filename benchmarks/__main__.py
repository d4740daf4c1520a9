"""``python -m benchmarks [PART ...]``: measure all parts or those named, record them, write them into the documents.

Each part is a module of this folder. Its rows take the place of its former ones in benchmarks/bench.json, and the
figures of README.md, docs/ and experiments/README.md follow; docs/benchmarks.md has every row. With ``--out`` they go
into another file, and the documents stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import answers, batch, data, figures, gates, ledger, logprobs, page, sampler, stack, sweep, verifier
from benchmarks.rows import BENCH, record, show

PARTS: dict[str, Callable[[int, int], list[dict[str, Any]]]] = {
    "batch": batch.rows,
    "stack": stack.rows,
    "sampler": lambda rounds, _: sampler.rows(rounds),
    "sweep": sweep.rows,
    "logprobs": lambda rounds, _: logprobs.rows(rounds),
    "gates": lambda *_: gates.rows(),
    "ledger": lambda *_: ledger.rows(),
    "verifier": lambda *_: verifier.rows(),
    "answers": lambda *_: answers.rows(),
    "data": lambda *_: data.rows(),
}


def main() -> int:
    """Measure, record, print; the exit code is 1 where a part could not be recorded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help="rollout batches per round; the first is not counted")
    parser.add_argument("--out", type=Path, default=BENCH, help="another file to record in")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    recorded = []
    for part in options.parts or PARTS:
        rows = PARTS[part](options.rounds, options.batches)
        show(rows)
        recorded.append(record(part, rows, options.out))
    if options.out == BENCH:
        figures.main([])
        page.main()
    return int(not all(recorded))


if __name__ == "__main__":
    raise SystemExit(main())
