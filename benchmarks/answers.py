"""How often verdicts agree with published marks, ours and those of math-verify 0.9.0 alone.

Every file of the real data's folder ``answers``, and the pairs that were written by hand for this verifier: those that
it was developed on, and those that nobody who worked on it had seen (``tests/golden/answers_{dev,unseen}.jsonl``).
Lines with a gold answer, a bare answer or a whole output, and a mark.
"""

from __future__ import annotations

import json
import logging
import operator
from pathlib import Path
from typing import Any

from benchmarks.rows import row
from benchmarks.verifier import data_folder, math_verify_alone
from gatepo.rewards.verifier import Verifier
from gatepo.verify import answers_in, grade

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def rows() -> list[dict[str, Any]]:
    """Two rows for each file: agreements, and false positives; none where the real rows are not there."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    folder = data_folder()
    if folder is None:
        print("left out: agreement with marks; set GATEPO_DATA to the folder of real rows")
        return []
    verifier = Verifier(deadline=5.0)
    try:
        paths = [*sorted((folder / "answers").glob("*.jsonl")), *sorted(GOLDEN.glob("answers_*.jsonl"))]
        return [row for path in paths for row in _rows(path, verifier)]
    finally:
        verifier.close()


def _rows(path: Path, verifier: Verifier) -> list[dict[str, Any]]:
    lines, name = answers_in(path), path.stem
    ours = [g.verdict.equal for g in grade(lines, verifier, "auto")]
    alone = [_alone(json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
    marks = [line.mark for line in lines]
    agree = [sum(map(operator.eq, side, marks)) for side in (ours, alone)]
    passed = [sum(map(operator.gt, side, marks)) for side in (ours, alone)]
    return [
        row(name, f"{name}: verdicts that agree with the marks", *agree, f"of {len(marks)}") | {"of": len(marks)},
        row(f"{name}_passed", f"{name}: answers that pass and are marked wrong", *passed, f"of {len(marks)}"),
    ]


def _alone(line: dict[str, Any]) -> bool:
    """math-verify reads LaTeX between dollars: a bare answer gets them, a whole output has its own."""
    bare = "prediction" in line
    return math_verify_alone(str(line["gold"]), f"${line['prediction']}$" if bare else line["output"])
