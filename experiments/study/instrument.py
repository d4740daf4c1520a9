"""Apply the rule by which the study's learning rate was chosen: ``python experiments/study/instrument.py FOLDER``.

FOLDER holds pilot runs of ``gate=clip`` alone, with seeds that the study never uses:

    python -m gatepo.train -m +experiment=study/base gate=clip evaluate.limit=1 \\
        optimizer.lr=3.5e-4,7e-4,1e-3,1.4e-3 seed=0,1,2,3

The rule takes the largest learning rate at which every pilot run keeps what it learned (the last fifth of its answers'
rewards is at least 0.9 of the best mean over five rollout batches), meets the gate (at least 5% of the tokens are
clipped in the last iteration, mean over the run) and leaves room above it (the reward of the last fifth is below 1.8).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from gatepo.report.runs import ANSWER, Run, read_run
from gatepo.run_folder import is_finished
from gatepo.study.outcomes import last_fifth

BEST_OF = 5  # rollout batches
KEEPS, CLIPS, ROOM = 0.9, 0.05, 1.8


class Pilot(NamedTuple):
    """What the rule asks of one run."""

    kept: float
    clipped: float
    reward: float

    @property
    def passes(self) -> bool:
        """Whether it is as the rule wants it."""
        return self.kept >= KEEPS and self.clipped >= CLIPS and self.reward < ROOM


def pilot(run: Run) -> Pilot:
    """Read what the rule asks from a run's metrics."""
    first = [row for row in run.metrics if "eur/iteration_1" in row]
    answer_B = [row[ANSWER] for row in first]
    best = max(fmean(answer_B[start : start + BEST_OF]) for start in range(len(answer_B) - BEST_OF + 1))
    clipped = fmean(row["clip_ratio/region_mean"] for row in run.metrics if run.eur_key in row)
    return Pilot(last_fifth(answer_B) / best, clipped, last_fifth([row["reward"] for row in first]))


def main() -> None:
    """Entry point."""
    found: dict[float, list[tuple[int, Pilot]]] = defaultdict(list)
    for config in sorted(Path(sys.argv[1]).rglob("config.yaml")):
        if is_finished(config.parent):
            run = read_run(config.parent)
            found[float(run.config["optimizer"]["lr"])].append((int(run.seed), pilot(run)))
    for rate, pilots in sorted(found.items()):
        for seed, one in sorted(pilots):
            kept, clipped, reward = one
            word = "passes" if one.passes else "fails"
            print(f"lr {rate:g} seed {seed}: kept {kept:.2f}, clipped {clipped:.3f}, reward {reward:.2f}: {word}")
    right = [rate for rate, pilots in found.items() if all(one.passes for _, one in pilots)]
    print(f"chosen: {max(right):g}" if right else "none passes")


if __name__ == "__main__":
    main()
