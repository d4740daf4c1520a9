"""Tables: groups and runs side by side, for the terminal, as CSV, as Markdown and as HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean

from gatepo.measures import ACCURACY, shown
from gatepo.report.panels import Material, ranges
from gatepo.report.runs import ANSWER, LAST_EUR, Run
from gatepo.report.verdict import Verdict
from gatepo.text_table import of_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under a head. ``name`` is that of its files, ``figures`` the columns that hold numbers."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1  # columns, from the left, that hold words

    def as_text(self) -> str:
        """Give it for a terminal."""
        return of_texts([self.head, *self.rows])

    def as_csv(self) -> str:
        """Give it as CSV."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *self.rows])
        return out.getvalue()

    def as_markdown(self) -> str:
        """Give it as a table of Markdown."""
        rule = tuple("---" if i < self.words else "---:" for i in range(len(self.head)))
        lines = [[cell.replace("|", "\\|") for cell in row] for row in (self.head, rule, *self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def as_html(self, shape: str = "scroll") -> str:
        """Give it as a table of a page, which scrolls within itself where it is too wide.

        Args:
          shape: the classes of its box in the page's style sheet.
        """
        head = "".join(f"<th scope='col'{self._kind(i)}>{escape(cell)}</th>" for i, cell in enumerate(self.head))
        body = "".join(
            f"<tr{_anchor(self.name, number)}>"
            + "".join(
                f"<th scope='row'>{with_arrow(cell)}</th>" if i == 0 else f"<td{self._kind(i)}>{with_arrow(cell)}</td>"
                for i, cell in enumerate(row)
            )
            + "</tr>"
            for number, row in enumerate(self.rows, 1)
        )
        return (
            f"<div class='{shape}' tabindex='0' role='region' aria-label='{escape(self.title)}'><table>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _kind(self, column: int) -> str:
        return "" if column < self.words else " class='number'"


def with_arrow(cell: str) -> str:
    """Write text for a page, "a -> b" with an arrow."""
    return escape(cell).replace(" -&gt; ", " \N{RIGHTWARDS ARROW} ")


def _anchor(table: str, number: int) -> str:
    return f" id='run-{number}'" if table == "runs" else ""


def groups(material: Material) -> Table:
    """Give a row for each setting: first and last figures as means over its runs, with their range."""
    sets = _sets(material.runs)
    head = (
        "setting",
        "seeds",
        "finished",
        "collapsed",
        "answers",
        "reward",
        "entropy",
        "EUR, eq. 12",
        "EUR, last iteration",
    )
    rows = []
    for number, group in enumerate(material.groups):
        runs = material.group_runs(number)
        rows.append(
            (
                group.label,
                _seeds(runs),
                f"{sum(run.finished for run in runs)} of {len(runs)}",
                f"{sum(run.collapsed for run in runs)} of {len(runs)}",
                *(_first_and_last(runs, key) for key in (ANSWER, "reward", "entropy", "eur", LAST_EUR)),
                *(_score(runs, name) for name in sets),
            )
        )
    return Table(name="groups", title="Settings, mean over seeds", head=(*head, *sets), rows=rows, words=1)


def runs(material: Material) -> Table:
    """Give a row for each run."""
    sets = _sets(material.runs)
    label = {place: group.label for group in material.groups for place in group.runs}
    rows = []
    for place, run in enumerate(material.runs):
        planned = run.config.get("updates")
        done = int(run.metrics[-1]["update"])
        rows.append(
            (
                str(place + 1),
                label[place],
                "" if run.seed is None else str(run.seed),
                f"{done}" if run.finished or planned is None else f"{done} of {planned}, unfinished",
                "yes" if run.collapsed else "no",
                *(_first_and_last([run], key) for key in (ANSWER, "reward", "entropy", "eur", LAST_EUR)),
                *(_score([run], name) for name in sets),
                run.commit,
                material.names[place],
            )
        )
    figures = ("answers", "reward", "entropy", "EUR, eq. 12", "EUR, last iteration")
    head = ("run", "setting", "seed", "updates", "collapsed", *figures, *sets, "commit", "folder")
    return Table(name="runs", title="Runs", head=head, rows=rows, words=2)


def verdicts(found: Sequence[Verdict]) -> Table:
    """Give a row for each claim."""
    rows: list[tuple[str, ...]] = [
        (
            verdict.claim,
            verdict.says,
            verdict.word,
            verdict.statistic,
            number(verdict.estimate),
            f"[{number(verdict.low)}, {number(verdict.high)}]",
            number(verdict.smallest),
            ranges(verdict.seeds),
            "" if verdict.seeds_needed is None else str(verdict.seeds_needed),
            "yes" if verdict.registered else "exploratory",
            verdict.remark,
            "; ".join(verdict.runs),
        )
        for verdict in found
    ]
    head = ("claim", "says", "verdict", "statistic", "estimate", "interval", "smallest effect", "seeds", "seeds needed")
    return Table(name="verdicts", title="Verdicts", head=(*head, "registered", "remark", "runs"), rows=rows, words=4)


def number(value: float | None) -> str:
    """Write a number with three digits that count; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"


def _seeds(runs: Sequence[Run]) -> str:
    seeds = {run.seed for run in runs}
    whole = [seed for seed in seeds if isinstance(seed, int)]
    return ", ".join(
        filter(None, [ranges(whole), *(str(s) for s in seeds if s is not None and not isinstance(s, int))])
    )


def _first_and_last(runs: Sequence[Run], key: str) -> str:
    """Write "first -> last (lowest to highest)"; nothing where no run has it."""
    found = [run.first_and_last(key) for run in runs if run.series(key)[0]]
    if not found:
        return ""
    last = [one["last"] for one in found]
    spread = f" ({min(last):.3f} to {max(last):.3f})" if len(last) > 1 else ""
    return f"{fmean(one['first'] for one in found):.3f} -> {fmean(last):.3f}{spread}"


def _sets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.summary.get("evaluation", {})))


def _score(runs: Sequence[Run], name: str) -> str:
    """Write "before -> after" of a set, and what it is where it is no accuracy."""
    found = [run for run in runs if name in run.summary.get("evaluation", {})]
    if not found:
        return ""
    measures = found[0].measures
    before, after = (
        shown(fmean(run.summary["evaluation"][name][when] for run in found), measures) for when in ("before", "after")
    )
    if measures == ACCURACY:
        return f"{before.removesuffix('%')} -> {after}"
    return f"{before} -> {after}, {measures}"
