"""One HTML page that needs nothing beside it: verdicts, figures that can be read off, tables, how they were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from gatepo.durable import write_text
from gatepo.report import captions, charts, comparisons, paper, tables
from gatepo.report.curves import REACH
from gatepo.report.groups import differing, shared
from gatepo.report.panels import Figure, Material, ranges
from gatepo.report.runs import LAST, Run
from gatepo.report.verdict import Verdict

PAGE = "report.html"
WORDS = {"holds": "holds", "does not hold": "does-not-hold", "not run": "not-run"}  # others are "open"
NAMES = {
    **{"figure1_gates": "1", "figure2_reward": "2", "figure3_reward": "3"},
    **{"figure4_entropy_eur": "4", "figure5_entropy_eur": "5"},
}


def write_page(runs: Sequence[Run], out: Path, verdicts: Sequence[Verdict] = (), title: str = "Runs compared") -> Path:
    """Write the page over some runs, finished or not.

    Args:
      runs: as ``find_runs`` gives them, at least one.
      out: the folder that gets ``report.html``; it is made where it is missing.
      verdicts: what a study found of its claims; they come first.
      title: of the page.
    Returns: the page's path.
    """
    material = Material(runs)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PAGE, html(material, figures(material), verdicts, title))
    return out / PAGE


def figures(material: Material) -> list[Figure]:
    """Give all figures for which there are runs, in the order of the page."""
    of_paper = paper.figures(material)
    drawn = {group for figure in of_paper for panel in figure.panels if panel.curves for group in panel.groups}
    return of_paper + comparisons.figures(material, drawn)


def html(material: Material, shown: Sequence[Figure], verdicts: Sequence[Verdict], title: str) -> str:
    """Compose the page."""
    from plotly.offline import get_plotlyjs  # 5 MB of script, read for this alone

    of_paper = [figure for figure in shown if figure.name in NAMES]
    others = [figure for figure in shown if figure.name not in NAMES]
    sections = {
        "paper": ("The paper's figures", _paper(material, of_paper)),
        "collapse": ("Collapse", _collapse(material)),
        "more": ("Tau, EUR, entropy, widths", "".join(_figure(material, figure) for figure in others)),
        "tables": ("Tables", _tables(material)),
        "settings": ("Settings", _settings(material)),
        "made": ("How to read this page", _notes(material)),
    }
    text = "".join(f"<section id='{name}'><h2>{head}</h2>{body}</section>" for name, (head, body) in sections.items())
    links = {"verdicts": "Verdicts"} if verdicts else {}
    links |= {name: head for name, (head, _) in sections.items()}
    web = files("gatepo.report") / "web"
    parts = {
        "title": escape(title),
        "css": (web / "page.css").read_text(encoding="utf-8"),
        "lead": escape(_lead(material)),
        "nav": "".join(f"<a href='#{name}'>{head}</a>" for name, head in links.items()),
        "verdicts": _verdicts(verdicts),
        "sections": text,
        "footer": escape(
            f"Made by python -m gatepo.report from {len(material.runs)} runs. No request leaves this page."
        ),
        "data": _script(charts.data(material, shown)),
        "plotly": get_plotlyjs(),
        "js": (web / "page.js").read_text(encoding="utf-8"),
    }
    page = (web / "page.html").read_text(encoding="utf-8").split("{{")
    return page[0] + "".join(parts[name] + rest for name, _, rest in (part.partition("}}") for part in page[1:]))


def _script(data: object) -> str:
    """Write data so that no text in it can end the script that holds it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _lead(material: Material) -> str:
    everyone = material.everyone
    settings = f"{len(everyone)} setting{'s' if len(everyone) > 1 else ''}"
    parts = (captions.runs_line(material, everyone), settings, captions.seeds_line(material, everyone))
    about = captions.settings_line(material, everyone), captions.commits_line(material, everyone)
    doubts = captions.chance_line(material, everyone), captions.scales_line(material, everyone)
    return "; ".join(filter(None, (*parts, *doubts, *about)))


def _verdicts(found: Sequence[Verdict]) -> str:
    if not found:
        return ""
    registered = [_verdict(verdict) for verdict in found if verdict.registered]
    explored = [_verdict(verdict) for verdict in found if not verdict.registered]
    parts = ["<section id='verdicts'><h2>Verdicts</h2>"]
    if registered:
        parts.append("<p class='says'>Claims as they were registered before the first run.</p>")
        parts.append(f"<ol class='verdicts'>{''.join(registered)}</ol>")
    if explored:
        parts.append("<p class='says apart'>Exploratory: not registered before the first run.</p>")
        parts.append(f"<ol class='verdicts'>{''.join(explored)}</ol>")
    return "".join(parts) + "</section>"


def _verdict(verdict: Verdict) -> str:
    """Write one line: the claim, what was measured and how surely, and the word."""
    number = tables.number
    measured = escape(verdict.statistic)
    if verdict.estimate is not None:
        interval = f"[{number(verdict.low)}, {number(verdict.high)}]"
        measured += f": <b>{number(verdict.estimate)}</b> {interval}, smallest effect {number(verdict.smallest)}"
    measured += f"; seeds {ranges(verdict.seeds)}" if verdict.seeds else "; no seeds"
    if verdict.seeds_needed is not None:
        measured += f"; {verdict.seeds_needed} seeds would do"
    remark = f"<span class='remark'>{escape(verdict.remark)}</span>" if verdict.remark else ""
    return (
        f"<li><span class='claim'>{escape(verdict.claim)}</span><span class='claimed'>{escape(verdict.says)}</span>"
        f"<span class='measure'>{measured}</span><span class='interval'>{_interval(verdict)}</span>"
        f"<span class='word {WORDS.get(verdict.word, 'open')}'>{escape(verdict.word)}</span>{remark}</li>"
    )


def _interval(verdict: Verdict) -> str:
    """Draw the interval with its estimate; a line stands at 0 and a broken one at the smallest effect of interest."""
    if verdict.estimate is None or verdict.low is None or verdict.high is None:
        return ""
    ends = (verdict.low, verdict.high, verdict.smallest, 0.0)
    low, high = min(ends), max(ends)
    scale = 120 / (high - low or 1.0)
    low, high, at, nothing, least = (
        5 + (value - low) * scale for value in (verdict.low, verdict.high, verdict.estimate, 0.0, verdict.smallest)
    )
    return (
        "<svg viewBox='0 0 130 24' role='img' aria-label='interval, 0 and smallest effect'>"
        f"<line x1='{nothing:.1f}' x2='{nothing:.1f}' y1='2' y2='22' stroke='var(--soft)'/>"
        f"<line x1='{least:.1f}' x2='{least:.1f}' y1='2' y2='22' stroke='var(--soft)' stroke-dasharray='2 2'/>"
        f"<line x1='{low:.1f}' x2='{high:.1f}' y1='12' y2='12' stroke='currentColor' stroke-width='2.5'/>"
        f"<circle cx='{at:.1f}' cy='12' r='4' fill='currentColor'/></svg>"
    )


def _paper(material: Material, shown: Sequence[Figure]) -> str:
    note = (
        "The paper prints its figures without their axes' ranges and without saying how curves are smoothed, so these "
        "have its arrangement and not its scale. " + paper.missing(material)
    )
    return f"<p class='note'>{escape(note)}</p>" + "".join(_figure(material, figure) for figure in shown)


def _figure(material: Material, figure: Figure) -> str:
    panels = "".join(
        f"<div class='panel'><h4>{escape(panel.title)}</h4><div class='plot'></div></div>" for panel in figure.panels
    )
    return (
        f"<figure id='{figure.name}'><h3>{escape(figure.title)}</h3><p class='says'>{escape(figure.says)}</p>"
        f"<div class='legend' role='group' aria-label='Settings in this figure'></div>"
        f"<div class='panels columns-{figure.columns}' style='--columns:{figure.columns}'>{panels}</div>"
        f"<figcaption>{_caption(material, figure)}</figcaption></figure>"
    )


def _caption(material: Material, figure: Figure) -> str:
    """Name runs, seeds, settings and commit."""
    places = [place + 1 for place in material.places(figure.groups)]
    runs = f"<a href='#run-{places[0]}'>Runs {ranges(places)}</a> ({captions.runs_line(material, figure.groups)})"
    parts = (captions.seeds_line, captions.settings_line, captions.commits_line)
    return "; ".join((runs, *(escape(part(material, figure.groups)) for part in parts)))


def _collapse(material: Material) -> str:
    """Count, for each setting, the runs that end below where they began."""
    rows = []
    for number, group in enumerate(material.groups):
        runs = material.group_runs(number)
        fell = sum(run.collapsed for run in runs)
        going = sum(not run.finished for run in runs)
        dots = "\N{BLACK CIRCLE}" * fell + "\N{WHITE CIRCLE}" * (len(runs) - fell)
        rows.append(
            f"<tr><th scope='row'>{escape(group.label)}</th><td>{fell} of {len(runs)}</td>"
            f"<td class='dots' aria-hidden='true'>{dots}</td><td>{f'{going} unfinished' if going else ''}</td></tr>"
        )
    head = "".join(f"<th scope='col'>{word}</th>" for word in ("setting", "collapsed", "a dot for each run", ""))
    return (
        f"<p class='says'>A run has collapsed where the last {_fifth()} of its updates has fewer right answers than "
        "the untrained model's first batch, or less reward where no part of that is an answer. "
        "An unfinished run counts as it stands.</p>"
        "<div class='scroll tall narrow' tabindex='0' role='region' aria-label='Collapse'><table><thead><tr>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _fifth() -> str:
    assert LAST == 5, "the word below"
    return "fifth"


def _tables(material: Material) -> str:
    settings, runs = tables.groups(material), tables.runs(material)
    note = f"First update -> mean over the last {_fifth()} of the updates; in brackets the lowest and the highest seed."
    return (
        f"<p class='says'>{tables.with_arrow(note)}</p><h3>{settings.title}</h3>{settings.as_html()}"
        f"<h3 style='margin-top:1.5rem'>{runs.title}</h3>{runs.as_html('scroll tall runs')}"
    )


def _settings(material: Material) -> str:
    varied, alike = differing(material.runs), shared(material.runs)
    words = f"What differs: {', '.join(varied)}." if varied else "All runs have the same settings but for the seed."
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td>{escape(captions.shown(value))}</td></tr>"
        for key, value in alike.items()
    )
    return (
        f"<p class='says'>{escape(words)}</p><details><summary>{len(alike)} settings that all runs have alike</summary>"
        f"<div class='scroll tall' tabindex='0' role='region' aria-label='Settings'><table><tbody>{rows}"
        "</tbody></table></div></details>"
    )


def _notes(material: Material) -> str:
    widths = " or ".join(str(width) for width in material.curves.widths())
    points = f"the mean of {widths} updates" if widths != "1" else "one update"
    notes = [
        f"A point of a curve is {points}, whole rollout batches, then a running mean over {2 * REACH + 1} points that "
        "does not lag. Peaks that are narrower are not to be seen here; metrics.jsonl has every update.",
        "Lines are means over the runs of a setting, which differ in the seed alone; bands reach from the lowest run "
        "to the highest. Where a run is shorter or unfinished, both go on over those that got further.",
        f"Last figures are means over the last {_fifth()} of a run's updates, which compares runs with other numbers "
        "of iterations over a batch; of an unfinished run it is the last part of what there is.",
        "EUR (eq. 12) is the mean slope of the gate over a prompt's tokens. As the paper averages it, it takes in the "
        "first iteration, in which it is 1; that of the last iteration alone shows the gate.",
        "Colours are those of Okabe and Ito, for colour-blind readers; more than eight settings in one figure have a "
        "colour for each gate, in shades and dashes.",
    ]
    return f"<ul class='notes'>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"
