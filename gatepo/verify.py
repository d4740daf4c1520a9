"""Grade answers: ``python -m gatepo.verify FILE.jsonl``.

Each line has ``gold`` and either ``prediction`` or ``output``, a bare answer or a whole response. Writes
FILE.verdicts.jsonl, a verdict per line; where the lines carry ``expected`` or ``correct`` (true or false), prints how
often the verdicts agree.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatepo.cli import errors_as_one_line
from gatepo.errors import UserError
from gatepo.rewards.extraction import EXTRACTIONS, final_answer
from gatepo.rewards.verifier import Reason, Verdict, Verifier

ANSWERS, MARKS = ("prediction", "output"), ("expected", "correct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line to grade."""

    number: int
    gold: str
    response: str
    mark: bool | None  # what the file says about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A line with the answer that was read in it and its verdict."""

    line: Line
    answer: str | None
    verdict: Verdict


def answers_in(path: Path) -> list[Line]:
    """Read the lines of a file.

    Raises:
      UserError: the file cannot be read, or names the line that is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a JSONL file in UTF-8") from error
    return [_line(path, n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]


def grade(lines: Sequence[Line], verifier: Verifier, extraction: str) -> list[Graded]:
    """Judge every line. A gold answer may be a whole solution too; its last box or its end is what counts."""
    answers = [EXTRACTIONS[extraction](line.response) for line in lines]
    golds = [final_answer(line.gold) or line.gold for line in lines]
    verdicts = verifier.verify_many(list(zip(golds, answers, strict=True)))
    return [Graded(line=n, answer=a, verdict=v) for n, a, v in zip(lines, answers, verdicts, strict=True)]


def confusion(graded: Sequence[Graded]) -> str:
    """Give verdicts against marks, as a table."""
    count = Counter((g.verdict.equal, g.line.mark) for g in graded if g.line.mark is not None)
    agree, total = count[True, True] + count[False, False], sum(count.values())
    rows = [
        ("", "marked right", "marked wrong"),
        ("judged right", str(count[True, True]), str(count[True, False])),
        ("judged wrong", str(count[False, True]), str(count[False, False])),
    ]
    table = "\n".join(f"{name:<14}{right:>14}{wrong:>14}" for name, right, wrong in rows)
    return f"{table}\nagree on {agree} of {total} ({agree / total:.1%})"


def main() -> None:
    """Entry point of ``python -m gatepo.verify`` and of the script ``gatepo-verify``."""
    parser = argparse.ArgumentParser(prog="python -m gatepo.verify", description=__doc__)
    parser.add_argument("file", type=Path, help="JSONL")
    parser.add_argument("--out", type=Path, help="where the verdicts go (default: FILE.verdicts.jsonl)")
    parser.add_argument("--extraction", choices=EXTRACTIONS, default="auto", help="where an answer is read")
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds of CPU time for one answer")
    parser.add_argument("--workers", type=int, help="processes (default: one per core, at most 4)")
    options = parser.parse_args()
    with errors_as_one_line():
        for name, value in (("--deadline", options.deadline), ("--workers", options.workers)):
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name} must be a number > 0, got {value}; leave it out")
        lines = answers_in(options.file)
        out = options.out or options.file.with_suffix(".verdicts.jsonl")
        if not out.parent.is_dir() or out.is_dir() or out.resolve() == options.file.resolve():
            raise UserError(f"--out must be a new file in a folder that is there, got {out}; leave it out")
        _run(options.file, lines, out, options)


def _run(path: Path, lines: Sequence[Line], out: Path, options: argparse.Namespace) -> None:
    if not lines:
        raise UserError(f"{path} must have at least one line, got an empty file; give another")
    verifier = Verifier(deadline=options.deadline, workers=options.workers)
    try:
        graded = grade(lines, verifier, options.extraction)
    finally:
        verifier.close()
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(_row(g)) + "\n" for g in graded)
    print(summary(graded))
    if any(g.line.mark is not None for g in graded):
        print(confusion(graded))
    print(out)


def summary(graded: Sequence[Graded]) -> str:
    """Say how many are right, and what the verdicts rest on."""
    reasons = Counter(g.verdict.reason for g in graded)
    parts = ", ".join(f"{reasons[reason]} by {reason.value}" for reason in Reason if reasons[reason])
    return f"{sum(g.verdict.equal for g in graded)} of {len(graded)} right; settled {parts}"


def _row(graded: Graded) -> dict[str, Any]:
    row = {"line": graded.line.number, "equal": graded.verdict.equal, "reason": graded.verdict.reason.value}
    row |= {"gold": graded.line.gold, "answer": graded.answer}
    return row if graded.line.mark is None else row | {"mark": graded.line.mark}


def _line(path: Path, number: int, text: str) -> Line:
    where = f"{path}:{number}"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} must be JSON, got {text.strip()[:60]!r} ({error}); correct the line") from error
    fields = [name for name in ANSWERS if isinstance(row, dict) and name in row]
    if len(fields) != 1 or not isinstance(row.get("gold"), str | int | float):
        got = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{where} must have gold and one of prediction or output, got {got}; correct the line")
    response = row[fields[0]]
    if not isinstance(response, str | int | float):
        raise UserError(
            f"{where} must have a text as its {fields[0]}, got {json.dumps(response)[:60]}; correct the line"
        )
    marks = [row[name] for name in MARKS if name in row]
    if any(not isinstance(mark, bool) for mark in marks):
        raise UserError(f"{where} must have true or false as its mark, got {json.dumps(marks)}; correct the line")
    if len(set(marks)) > 1:
        raise UserError(f"{where} must have expected and correct agree, got {json.dumps(marks)}; take one out")
    return Line(number=number, gold=str(row["gold"]), response=str(response), mark=marks[0] if marks else None)


if __name__ == "__main__":
    main()
