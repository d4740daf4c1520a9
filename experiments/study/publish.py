"""Write the study's results into the documents, from the runs in runs.tar.xz: ``python experiments/study/publish.py``.

The verdicts go into docs/study.md, experiments/README.md and README.md, each setting's outcomes and one comparison that
was not registered into docs/study.md, all between marks, and the figures beside docs/study.md. Nothing is run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

import numpy as np
from archive import unpack

from gatepo.presets import register
from gatepo.report.verdict import Verdict, Word
from gatepo.report.write import write
from gatepo.study import cells, judge
from gatepo.study.__main__ import START, asked
from gatepo.study.claims import Registration, read, slug
from gatepo.study.curve import gains
from gatepo.study.evidence import Runs
from gatepo.study.intervals import student
from gatepo.study.outcomes import outcome

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS, CLAIMS = HERE / "runs.tar.xz", HERE / "claims.yaml"
FIGURES = ("outcomes", "figure2_reward", "figure3_reward", "figure4_entropy_eur", "figure5_entropy_eur", "eur_tau")
END = "<!-- end -->\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the documents are written from."""

    verdicts: Sequence[Verdict]
    known: Registration
    runs: Runs

    @property
    def seeds(self) -> list[int]:
        """All that were run."""
        return sorted({seed for _, seed in self.runs})


def judged(folder: Path) -> Judged:
    """Judge the claims by the runs in a folder."""
    register()
    known = read(CLAIMS)
    given = asked([f"dir={folder}"], known)
    planned = cells.plan(known.experiment, given.claims, given.seeds, (), folder)
    runs = cells.finished(planned)
    at_start = cells.registered(folder / START, dict(known.digests), ())
    verdicts = judge.verdicts(known, given.claims, runs, given.seeds, folder, cells.coordinates, at_start)
    return Judged(verdicts=verdicts, known=known, runs=runs)


def whole_table(study: Judged) -> str:
    """Give a row for each claim, with what was computed and what is beside it."""
    rows = ["| claim | | verdict | estimate and interval | smallest of interest | seeds | |", f"|{' --- |' * 7}"]
    for one in study.verdicts:
        seeds = str(len(one.seeds)) if one.seeds else ""
        if one.seeds_needed:
            seeds += f"; {one.seeds_needed:,} would tell"
        smallest = "" if one.estimate is None else f"{one.smallest:.3g}"
        remark = "; ".join(part for part in (one.statistic if one.estimate is not None else "", one.remark) if part)
        cells_of = (one.claim, one.says, f"**{one.word}**", interval(one), smallest, seeds, remark)
        rows.append(f"| {' | '.join(cells_of)} |")
    return "\n".join(rows) + "\n"


def short_table(study: Judged) -> str:
    """Give a row for each claim that was judged, with the verdict alone."""
    rows = ["| claim | verdict | estimate [interval] |", "| --- | --- | --- |"]
    rows += [f"| {v.says} | {v.word} | {interval(v)} |" for v in study.verdicts if v.estimate is not None]
    return "\n".join(rows) + "\n"


def grouped_table(study: Judged) -> str:
    """Give a row for each verdict, with the claims that got it."""
    rows = ["| verdict | claims |", "| --- | --- |"]
    for word in get_args(Word):
        says = "; ".join(v.says for v in study.verdicts if v.word == word and v.estimate is not None)
        rows += [f"| {word} | {says} |"] if says else []
    return "\n".join(rows) + "\n"


def settings_table(study: Judged) -> str:
    """Give a row for each setting: how many seeds collapsed, and the mean and range of each outcome over all seeds."""
    outcomes = ("accuracy", "entropy", "eur", "eur(iteration 4)")
    rows = [f"| setting | collapsed | {' | '.join(outcomes)} |", f"|{' --- |' * (2 + len(outcomes))}"]
    for cell in sorted({cell for cell, _ in study.runs}, key=slug):
        runs = [study.runs[cell, seed] for seed in study.seeds]
        shown = [f"{sum(outcome('collapsed')(run) for run in runs):.0f} of {len(runs)}"]
        for name in outcomes:
            values = [outcome(name)(run) for run in runs]
            shown.append(f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        rows.append(f"| `{slug(cell)}` | {' | '.join(shown)} |")
    return "\n".join(rows) + "\n"


def rate_alone(study: Judged) -> str:
    """Say how well half-width x lr, lr / tau and lr alone foretell the collapse of a seed that they have not seen."""
    (claim,) = (claim for claim in study.known.claims if claim.statistic == "curve")
    collapsed_SC = np.array(
        [[outcome("collapsed")(study.runs[cell, seed]) for cell in claim.among] for seed in study.seeds]
    )
    places = [cells.coordinates(study.runs[cell, study.seeds[0]]) for cell in claim.among]
    product_C, ratio_C = (np.array(each) for each in zip(*places, strict=True))
    rate_C = np.log([float(dict(cell)["optimizer.lr"]) for cell in claim.among])
    rows = ["| | nats per run of an unseen seed, and its 95% interval |", "| --- | --- |"]
    for name, first_C, second_C in (
        ("half-width x lr over lr / tau (the claim)", product_C, ratio_C),
        ("half-width x lr over lr alone", product_C, rate_C),
        ("lr / tau over lr alone", ratio_C, rate_C),
    ):
        found = student(gains(collapsed_SC, first_C, second_C))(0.05)
        rows.append(f"| {name} | {found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}] |")
    return "\n".join(rows) + "\n"


def interval(verdict: Verdict) -> str:
    """Write an estimate and its interval; nothing where there is none."""
    if verdict.estimate is None:
        return ""
    low, high = ("unbounded" if bound is None else f"{bound:.2g}" for bound in (verdict.low, verdict.high))
    return f"{verdict.estimate:.2g} [{low}, {high}]"


def written(page: str, name: str, table: str) -> str:
    """Give a page with a table between the marks of its name."""
    begin = f"<!-- {name} -->\n"
    head, found, rest = page.partition(begin)
    if not found:
        raise ValueError(f"the page has no {begin.strip()}")
    return head + begin + table + END + rest.partition(END)[2]


TABLES: Sequence[tuple[str, str, Callable[[Judged], str]]] = (  # page, name of its marks, what stands between them
    ("docs/study.md", "verdicts", whole_table),
    ("docs/study.md", "settings", settings_table),
    ("docs/study.md", "not registered", rate_alone),
    ("experiments/README.md", "verdicts", short_table),
    ("README.md", "verdicts", grouped_table),
)


def main() -> None:
    """Entry point."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        unpack(RUNS, folder)
        study = judged(folder)
        for page, name, table in TABLES:
            text = (ROOT / page).read_text(encoding="utf-8")
            (ROOT / page).write_text(written(text, name, table(study)), encoding="utf-8")
        if sys.argv[1:] != ["tables"]:
            write(list(study.runs.values()), folder / "report", study.verdicts)
            for name in FIGURES:
                shutil.copy(folder / "report" / f"{name}.png", ROOT / "docs" / f"study-{name}.png")
    print("\n".join(map(judge.line, study.verdicts)))


if __name__ == "__main__":
    main()
