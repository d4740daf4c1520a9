"""Runs that nobody trained: folders as a run leaves them, with curves that rise, collapse or stop halfway.

    python -m tests.made_runs FOLDER [SEEDS [UPDATES]]

writes five gates at their temperatures with so many seeds, for a look at the report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

GATES = ("clip", "sigmoid", "erf", "arctan", "softsign")
TAUS = ((1.0, 1.05), (5.0, 6.0), (10.0, 12.0), (13.0, 15.0))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BESIDE = [f"beside/{number}" for number in range(26)]  # as many further numbers as a run logs


def make(
    folder: Path,
    gate: str = "erf",
    tau: tuple[float, float] = (10.0, 12.0),
    seed: int = 0,
    updates: int = 40,
    iterations: int = 2,
    until: int | None = None,
    **settings: Any,
) -> Path:
    """Write one run; where ``until`` is given it goes on still, so far."""
    folder.mkdir(parents=True)
    config = {
        "seed": seed,
        "updates": updates,
        "gate": {"name": gate} | ({"eps_low": 0.2, "eps_high": 0.2} if gate == "clip" else {}),
        "tau": {"name": "constant", "pos": tau[0], "neg": tau[1]},
        "optimizer": {"name": "adamw", "lr": 7e-4},
        "model": {"path": "tiny"},
        "data": {"path": None, "sources": {"words": {}, "expressions": {}}},
        "reward": {"name": "answer_and_format"},
        "batch": {"prompts": 8, "num_generations": 8, "iterations": iterations},
        "checkpoint": {"every": seed},
    }
    for key, value in settings.items():
        room, _, name = key.partition("__")
        config[room] = config.get(room, {}) | {name: value} if name else value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = list(metrics(gate, tau[0], seed, updates, iterations, until or updates))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"starts": [{"code": {"commit": COMMIT, "dirty": False}}]}))
    if until is None:
        sets = {"easy": 0.9, "hard": 0.5}
        accuracy = {name: {"before": 0.3, "after": round(of * rows[-1]["reward"] / 2, 3)} for name, of in sets.items()}
        (folder / "summary.json").write_text(json.dumps({"updates": updates, "evaluation": accuracy}))
    return folder


def metrics(gate: str, tau: float, seed: int, updates: int, mu: int, until: int) -> Iterator[dict[str, float]]:
    """Give a row for each update: answers and entropy by logistic curves, EUR falling with tau, all with noise."""
    draw = np.random.default_rng([seed, int(tau * 10), len(gate), ord(gate[0])])
    falls = tau < 2 and gate != "clip" and draw.random() < 0.8
    speed, end = 6 + 3 * draw.random(), 0.6 + 0.15 * draw.random()
    for update in range(1, until + 1):
        t, k = update / updates, (update - 1) % mu + 1
        answer = end / (1 + np.exp(-speed * (t - 0.35))) + 0.05
        answer *= float(np.exp(-8 * (t - 0.4))) if falls and t > 0.4 else 1.0
        wide = 0.02 * tau**0.8 * (k - 1) * (1 - 0.7 * t)
        eur = 1.0 if k == 1 else 1 - min(0.9, wide * (0.7 if gate == "clip" else 1) + 0.004 * abs(draw.normal()))
        entropy = 0.5 - 0.15 * t + (0.3 * (1 - eur)) + 0.01 * draw.normal() - (0.1 * t if gate == "clip" else 0)
        parts = {
            "answer": float(np.clip(answer + 0.04 * draw.normal(), 0, 1)),
            "format": float(np.clip(0.4 + 2 * t + 0.03 * draw.normal(), 0, 1)),
        }
        yield {
            **{"update": update, "reward": parts["answer"] + parts["format"], "entropy": float(max(0.01, entropy))},
            **{f"rewards/{name}/mean": value for name, value in parts.items()},
            **{"eur": float(eur), f"eur/iteration_{k}": float(eur), "tau/pos": tau, "tau/neg": tau * 1.2},
            **dict(zip(BESIDE, draw.random(len(BESIDE)).tolist(), strict=True)),
        }


def make_all(root: Path, gates: Sequence[str], taus: Sequence[tuple[float, float]], seeds: int, updates: int) -> int:
    """Write every gate at every tau with every seed; the clip, which takes none, at one."""
    cells = [(gate, tau) for gate in gates for tau in (taus if gate != "clip" else taus[-1:])]
    for gate, tau in cells:
        for seed in range(seeds):
            make(root / f"{gate}-{tau[0]:g}-{seed}", gate, tau, seed, updates)
    return len(cells) * seeds


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]] + [10, 160][len(sys.argv) - 2 :]
    print(make_all(Path(sys.argv[1]), GATES, TAUS, *numbers), "runs")
