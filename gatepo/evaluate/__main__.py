"""Accuracy on benchmarks, with its uncertainty: ``python -m gatepo.evaluate run=outputs/...``.

    python -m gatepo.evaluate run=outputs/... 'data=[gsm8k_test,math500,aime24,aime25]' samples=4

Samples and grades every problem that is not finished yet, then prints tables and writes evaluation.json. Started again
after an interruption, with the same words, it goes on.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

import json
import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from gatepo import claim, cli, config, durable
from gatepo.evaluate import folder, report
from gatepo.evaluate.generations import FILE
from gatepo.evaluate.subject import Subject, subject
from gatepo.schema import EvaluationConfig


def task(composed: DictConfig) -> None:
    """Run one evaluation."""
    asked = config.from_composed(EvaluationConfig, composed)
    evaluated = subject(asked)
    others = {path: folder.finished(Path(path)) for path in (*asked.beside, *filter(None, [asked.against]))}
    out = Path(asked.out) if asked.out else evaluated.out
    durable.make_folder(out)
    with claim.held(out, "out"):
        _evaluate(asked, evaluated, others, out)


def _evaluate(asked: EvaluationConfig, evaluated: Subject, others: dict[str, folder.Evaluation], out: Path) -> None:
    folder.claim(out, evaluated.identity())
    from gatepo.evaluate.grading import (
        grade_missing,  # torch and transformers, which --help and bad input need not wait for
    )

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


def main() -> None:
    """Entry point of ``python -m gatepo.evaluate`` and of the script ``gatepo-evaluate``."""
    cli.run("evaluate", task)


if __name__ == "__main__":
    main()
