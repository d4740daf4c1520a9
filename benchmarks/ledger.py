"""The books of EUR on the embedded default with vLLM: what each cause takes from 1, by precision and anchor.

Means over the second iterations of a short run's rollout batches, where gates differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.rows import row

CAUSES = ("rounding", "sampler", "staleness", "drift")
UPDATES = 40


def rows() -> list[dict[str, Any]]:
    """A row for each precision and anchor: drift beside all that is taken, and the other causes with it."""
    if find_spec("vllm") is None:
        print("ledger: left out, vllm is not installed (make .venv/test)")
        return []
    return [_row(dtype, anchor) for dtype in ("float32", "bfloat16") for anchor in ("old", "rollout")]


def _row(dtype: str, anchor: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"model.dtype={dtype}", f"anchor={anchor}", "rollout=vllm", f"updates={UPDATES}"]
        command = [sys.executable, "-m", "gatepo.train", *arguments, "evaluate.limit=1", f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        metrics = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()][1::2]
    taken = fmean(1 - update["eur"] for update in metrics)
    by_cause = {cause: round(fmean(update[f"eur/ledger/{cause}"] for update in metrics), 7) for cause in CAUSES}
    words = f"1 - EUR with anchor={anchor} in {dtype}: what drift takes, of all"
    return row(f"{dtype}_{anchor}", words, by_cause["drift"], taken, "") | by_cause
