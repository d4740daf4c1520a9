"""What the command does: it claims a folder, grades what is missing there, and reports."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from gatepo import claim, durable
from gatepo.evaluate import folder, report
from gatepo.evaluate.generations import FILE
from gatepo.evaluate.grading import grade_missing
from gatepo.evaluate.subject import Subject, subject
from gatepo.schema import EvaluationConfig


def evaluate(asked: EvaluationConfig) -> None:
    """Run one evaluation."""
    evaluated = subject(asked)
    others = {path: folder.finished(Path(path)) for path in (*asked.beside, *filter(None, [asked.against]))}
    for path, other in others.items():
        folder.require_comparable(path, other, evaluated.identity())
    out = Path(asked.out) if asked.out else evaluated.out
    durable.make_folder(out)
    with claim.held(out, "out"):
        _evaluate(asked, evaluated, others, out)


def _evaluate(asked: EvaluationConfig, evaluated: Subject, others: dict[str, folder.Evaluation], out: Path) -> None:
    folder.claim(out, evaluated.identity())
    sets, effort = grade_missing(evaluated, out)
    evaluation = folder.Evaluation(name=evaluated.name, sets=sets)
    print(report.page(asked, evaluation, others))
    document = {**evaluated.identity(), **report.as_json(asked, evaluation, others), "effort": effort}
    durable.flush(out / FILE)  # the figures follow from it
    durable.write_text(out / folder.RESULTS, json.dumps(document, indent=2) + "\n")
    print(f"\n{out / folder.RESULTS}\n{out / FILE}")
    if asked.rollout.EXITS_HARD:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
