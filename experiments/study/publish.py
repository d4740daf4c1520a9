"""Write the study's results into the documents, from the runs in runs.tar.xz: ``python experiments/study/publish.py``.

The verdicts go into docs/study.md, experiments/README.md and README.md, between their marks, and the figures beside
docs/study.md. Nothing is run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from archive import unpack

from gatepo.presets import register
from gatepo.report.runs import Run
from gatepo.report.verdict import Verdict
from gatepo.report.write import write
from gatepo.study import cells, judge
from gatepo.study.__main__ import START, asked
from gatepo.study.claims import read

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS, CLAIMS = HERE / "runs.tar.xz", HERE / "claims.yaml"
FIGURES = ("outcomes", "figure2_reward", "figure3_reward", "figure4_entropy_eur", "figure5_entropy_eur", "eur_tau")
BEGIN, END = "<!-- verdicts -->\n", "<!-- end -->\n"


def judged(folder: Path) -> tuple[list[Verdict], list[Run]]:
    """Judge the claims by the runs in a folder; give the verdicts and the runs."""
    register()
    known = read(CLAIMS)
    given = asked([f"dir={folder}"], known)
    planned = cells.plan(known.experiment, given.claims, given.seeds, (), folder)
    runs = cells.finished(planned)
    at_start = cells.registered(folder / START, dict(known.digests), ())
    return judge.verdicts(known, given.claims, runs, given.seeds, folder, cells.coordinates, at_start), list(
        runs.values()
    )


def whole_table(verdicts: Sequence[Verdict]) -> str:
    """Give a row for each claim, with what was computed and what is beside it."""
    rows = ["| claim | | verdict | estimate and interval | smallest of interest | seeds | |", f"|{' --- |' * 7}"]
    for one in verdicts:
        seeds = str(len(one.seeds)) if one.seeds else ""
        if one.seeds_needed:
            seeds += f"; {one.seeds_needed:,} would tell"
        smallest = "" if one.estimate is None else f"{one.smallest:.3g}"
        remark = "; ".join(part for part in (one.statistic if one.estimate is not None else "", one.remark) if part)
        cells_of = (one.claim, one.says, f"**{one.word}**", interval(one), smallest, seeds, remark)
        rows.append(f"| {' | '.join(cells_of)} |")
    return "\n".join(rows) + "\n"


def short_table(verdicts: Sequence[Verdict]) -> str:
    """Give a row for each claim that was judged, with the verdict alone."""
    rows = ["| claim | verdict | estimate [interval] |", "| --- | --- | --- |"]
    rows += [f"| {v.says} | {v.word} | {interval(v)} |" for v in verdicts if v.estimate is not None]
    return "\n".join(rows) + "\n"


def interval(verdict: Verdict) -> str:
    """Write an estimate and its interval; nothing where there is none."""
    if verdict.estimate is None:
        return ""
    low, high = ("unbounded" if bound is None else f"{bound:.2g}" for bound in (verdict.low, verdict.high))
    return f"{verdict.estimate:.2g} [{low}, {high}]"


def written(page: str, table: str) -> str:
    """Give a page with the table in its place."""
    head, found, rest = page.partition(BEGIN)
    if not found:
        raise ValueError(f"the page has no {BEGIN.strip()}")
    return head + BEGIN + table + END + rest.partition(END)[2]


TABLES: dict[str, Callable[[Sequence[Verdict]], str]] = {
    "docs/study.md": whole_table,
    "experiments/README.md": short_table,
    "README.md": short_table,
}


def main() -> None:
    """Entry point."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        unpack(RUNS, folder)
        verdicts, runs = judged(folder)
        write(runs, folder / "report", verdicts)
        for name in FIGURES:
            shutil.copy(folder / "report" / f"{name}.png", ROOT / "docs" / f"study-{name}.png")
    for document, table in TABLES.items():
        path = ROOT / document
        path.write_text(written(path.read_text(encoding="utf-8"), table(verdicts)), encoding="utf-8")
    print("\n".join(map(judge.line, verdicts)))


if __name__ == "__main__":
    sys.exit(main())
