"""Do to runs what machines do to them, and keep what was seen: ``python -m tests.faults FILE [short]``.

Appends a line of JSON to FILE for each injection, and goes on where FILE stops. Without ``short`` it takes some two
hours on two cores. ``python -m tests.faults.table FILE`` makes the table of docs/reliability.md of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults import injections
from tests.faults.injections import Bench, can_mount
from tests.faults.runs import REPO, end_with_parent, shim

PRELOADED = "GATEPO_FAULTS"  # set once this process runs with the shim
WARM = ("gatepo.launch.rank", "gatepo.evaluate.grading", "transformers.models.qwen2.modeling_qwen2", "gatepo.report")
RANKED = ("deepspeed ZeRO-1", "deepspeed ZeRO-2", "deepspeed ZeRO-3")
Injection = Callable[[Bench, str, random.Random], dict[str, Any]]


class Part(NamedTuple):
    """So many injections of a kind into a scenario; in the short form so many."""

    inject: Injection
    scenario: str
    times: int
    short: int = 0

    @property
    def kind(self) -> str:
        """Give the name of the injection."""
        return self.inject.__name__


PLAN = (
    Part(injections.kill, "torch", 150, short=4),
    Part(injections.flip, "torch", 50, short=1),
    Part(injections.stop, "torch", 24, short=2),
    Part(injections.collision, "torch", 8, short=1),
    Part(injections.power_cut, "torch", 36, short=1),
    Part(injections.full_disk, "torch", 12, short=1),
    Part(injections.kill, "evaluation", 12, short=1),
    Part(injections.kill, "vLLM", 8),
    *(Part(injections.kill, name, 8) for name in RANKED),
    Part(injections.stop, "vLLM", 3),
    *(Part(injections.stop, name, 3) for name in RANKED),
    *(Part(injections.flip, name, 4) for name in RANKED),
)
MOUNTS = (injections.power_cut, injections.full_disk)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("form", nargs="?", choices=("short", "long"), default="long")
    parser.add_argument("--only", help="one kind of injection")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        _preload(root)
        end_with_parent()
        for module in WARM:
            importlib.import_module(module)
        _do(asked, root)


def _preload(root: Path) -> None:
    """Become a process with the shim, which must be there from its start."""
    if os.environ.pop(PRELOADED, None):
        return
    built = shim(root)
    if built is None:
        sys.exit("gatepo: the kills at file operations need a C compiler, and there is none (cc, gcc)")
    environment = {PRELOADED: "1", "LD_PRELOAD": str(built), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(REPO)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *sys.argv[1:]], env=os.environ | environment, check=False
    )
    sys.exit(done.returncode)


def _do(asked: argparse.Namespace, root: Path) -> None:
    done = [json.loads(line) for line in asked.file.read_text().splitlines()] if asked.file.exists() else []
    known = {(line["kind"], line["scenario"], line["seed"]) for line in done}
    bench = Bench(root, root / "model")
    bench.finish("torch", bench.model)
    mounts, failed = can_mount(root), 0
    for part, seed in _injections(asked):
        if (part.kind, part.scenario, seed) in known:
            continue
        if part.inject in MOUNTS and not mounts:
            print(f"{part.kind}: skipped, for only root with loop devices can mount an image")
            continue
        line = _one(bench, part, seed)
        with asked.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        failed += bool(line["unequal"] or line["orphans"])
        print(json.dumps(line), flush=True)
    print(f"{failed} of {len(list(_injections(asked)))} injections were not survived")
    sys.exit(int(failed > 0))


def _injections(asked: argparse.Namespace) -> Iterator[tuple[Part, int]]:
    for part in PLAN:
        if asked.only in (None, part.kind):
            for seed in range(part.short if asked.form == "short" else part.times):
                yield part, seed


def _one(bench: Bench, part: Part, seed: int) -> dict[str, Any]:
    started = time.monotonic()
    found = part.inject(bench, part.scenario, random.Random(f"{part.kind} {part.scenario} {seed}"))
    head = {"kind": part.kind, "scenario": part.scenario, "seed": seed, "commit": _commit()}
    return {**head, **found, "seconds": round(time.monotonic() - started, 1)}


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(asked, cwd=REPO, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
