"""A whole report: the page, figures as PNG and SVG, tables as CSV and Markdown, and all numbers as report.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatepo.durable import write_text
from gatepo.report import tables
from gatepo.report.figures import paint
from gatepo.report.page import PAGE, figures, html
from gatepo.report.panels import Figure, Material
from gatepo.report.runs import ANSWER, LAST_EUR, Run
from gatepo.report.verdict import Verdict

JSON = "report.json"


def write(runs: Sequence[Run], out: Path, verdicts: Sequence[Verdict] = (), title: str = "Runs compared") -> Path:
    """Write the whole report over some runs into the folder ``out``, and give the path of its page."""
    material = Material(runs)
    shown = figures(material)
    out.mkdir(parents=True, exist_ok=True)
    for figure in shown:
        paint(figure, material, out)
    found = [tables.groups(material), tables.runs(material)]
    for table in [*found, *([tables.verdicts(verdicts)] if verdicts else [])]:
        write_text(out / f"{table.name}.csv", table.as_csv())
        write_text(out / f"{table.name}.md", table.as_markdown())
    write_text(out / JSON, json.dumps(numbers(material, shown, verdicts, title), indent=1) + "\n")
    write_text(out / PAGE, html(material, shown, verdicts, title))
    return out / PAGE


def numbers(material: Material, shown: Sequence[Figure], verdicts: Sequence[Verdict], title: str) -> dict[str, Any]:
    """Give verdicts, settings, runs and figures as plain data."""
    return {
        "title": title,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "groups": [
            {
                "label": group.label,
                "settings": group.settings,
                "runs": [material.names[place] for place in group.runs],
                "seeds": [material.runs[place].seed for place in group.runs],
                "finished": sum(material.runs[place].finished for place in group.runs),
                "collapsed": sum(material.runs[place].collapsed for place in group.runs),
            }
            for group in material.groups
        ],
        "runs": [_run(run, name) for run, name in zip(material.runs, material.names, strict=True)],
        "figures": [
            {
                "name": figure.name,
                "title": figure.title,
                "runs": [material.names[p] for p in material.places(figure.groups)],
            }
            for figure in shown
        ],
    }


def _run(run: Run, name: str) -> dict[str, Any]:
    keys = {
        "answers": ANSWER,
        "reward": "reward",
        "entropy": "entropy",
        "eur": "eur",
        "eur_last_iteration": LAST_EUR,
    }
    logged = {word: key for word, key in keys.items() if run.series(key)[0]}
    return {
        "folder": name,
        "seed": run.seed,
        "updates": int(run.metrics[-1]["update"]),
        "finished": run.finished,
        "collapsed": run.collapsed,
        "commit": run.commit,
        **{word: run.first_and_last(key) | {"mean": run.mean(key)} for word, key in logged.items()},
        "measures": run.measures,
        "evaluation": run.summary.get("evaluation", {}),
    }
