"""Figures as files: PNG and SVG of what ``panels.py`` describes, and the two that a run leaves at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, Locator, LogLocator, MaxNLocator, NullLocator

from gatepo.report.captions import commits_line, marks_line, runs_line, seeds_line, settings_line
from gatepo.report.comparisons import everyone
from gatepo.report.curves import Curve
from gatepo.report.panels import Figure, Material, Panel, Point
from gatepo.report.paper import UPDATE
from gatepo.report.runs import Run
from gatepo.report.style import LIGHT, Style, mixed, styles

DASH: dict[str, Any] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
STILL = 1e-3  # of its value: a curve that moves less is drawn as a line, and not as its rounding
MARK = {
    **{"circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "triangle-down": "v", "pentagon": "p"},
    **{"star": "*", "hexagon": "h"},
}
WIDTH, HEIGHT, ROW = 4.2, 3.0, 0.3  # inches: of a panel, and of a row that has a name
LINE, LETTER = 0.17, 0.075  # inches: of a line of the legend or of the words, and of one letter
PNG, SVG = ".png", ".svg"
LOOK: dict[Any, Any] = {  # one resolution, since what is placed at another does not fit
    **{"font.size": 8, "axes.titlesize": 8.5, "figure.dpi": 150, "savefig.dpi": "figure"},
    **{"svg.hashsalt": "gatepo", "svg.fonttype": "none"},
}


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw ``reward.png`` and ``entropy_eur.png`` of one run or several; returns their paths."""
    material = Material(runs)
    return [path for figure in everyone(material) for path in paint(figure, material, folder, (PNG,))]


def paint(figure: Figure, material: Material, folder: Path, kinds: Sequence[str] = (PNG, SVG)) -> list[Path]:
    """Draw one figure: title, panels, legend, and below it settings, seeds, runs and commit."""
    look = styles(material.groups, figure.groups)
    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    entries = _entries(figure, material, look)
    entry = LETTER * (8 + max((len(str(entry.get_label())) for entry in entries), default=1))
    named = [material.groups[group].label for panel in figure.panels if panel.rows for group in panel.groups]
    width = max(WIDTH * columns + LETTER * max(map(len, named), default=0), 1.6 * WIDTH, entry)
    high = max(HEIGHT, 0.9 + ROW * max(len(panel.groups) if panel.rows else 0 for panel in figure.panels))
    words, beside = _words(figure, material, int(width / LETTER)), int(width / entry)
    below = LINE * (words.count("\n") + 1) + 0.1
    foot, head = below + LINE * -(-len(entries) // beside) + 0.15, 2 * LINE
    height = head + high * rows + foot
    with plt.rc_context(LOOK):
        drawn, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
        drawn.get_layout_engine().set(rect=(0, foot / height, 1, (height - head - foot) / height))  # type: ignore[call-arg, union-attr]
        for ax, panel in zip(axes.flat, figure.panels, strict=False):
            _panel(ax, panel, material, look)
        for ax in axes.flat[len(figure.panels) :]:
            ax.axis("off")
        drawn.text(0.01, 1 - 0.08 / height, plain(figure.title), fontsize=10.5, fontweight="bold", va="top")
        drawn.text(0.01, 0.06 / height, words, fontsize=6.5, color="#555555", va="bottom", linespacing=1.4)
        if entries:
            anchor = (0.0, below / height)
            drawn.legend(handles=entries, ncols=beside, loc="lower left", bbox_to_anchor=anchor, frameon=False)
        drawn.draw_without_rendering()  # places everything, once for both files
        drawn.set_layout_engine("none")
        paths = [folder / f"{figure.name}{kind}" for kind in kinds]
        for path in paths:
            drawn.savefig(path, metadata={"Date": None} if path.suffix == SVG else None)
        plt.close(drawn)
    return paths


def _words(figure: Figure, material: Material, letters: int) -> str:
    if figure.labels:
        return plain(figure.says)
    parts = [part(material, figure.groups) for part in (settings_line, seeds_line, runs_line, commits_line)]
    lines = [marks_line(material, figure), "; ".join(filter(None, parts))]
    return plain("\n".join(fill(line, letters) for line in lines if line))


def _entries(figure: Figure, material: Material, look: Mapping[int, Style]) -> list[Line2D]:
    """Give the legend; none where there is one group, which the words below name, or where rows have their names."""
    if (len(figure.groups) == 1 and not figure.labels) or any(panel.rows for panel in figure.panels):
        return []
    found = []
    for group, label in zip(figure.groups, material.labels(figure), strict=True):
        style, several = look[group], len(material.groups[group].runs)
        words = plain(f"{label} ({several} runs)" if several > 1 and not figure.labels else label)
        line = Line2D([], [], color=_colour(style), label=words, linestyle=DASH[style.dash])
        line.set(marker=MARK[style.mark], markersize=4)
        found.append(line)
    return found


def _panel(ax: Axes, panel: Panel, material: Material, look: Mapping[int, Style]) -> None:
    ax.set_title(plain(panel.title), fontsize=9, loc="left")
    ax.set(xlabel=panel.x, ylabel=panel.y)
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    if panel.log_x:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(_ticks([point.x for point in panel.points]))
        ax.xaxis.set_major_formatter("{x:.3g}")
        ax.xaxis.set_minor_locator(NullLocator())
    elif panel.x == UPDATE:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for group in panel.groups if panel.curves else ():
        _curve(ax, material.curves.of_group(material.groups[group].runs, panel.curves or ""), look[group])
        places = material.groups[group].runs
        if len(material.runs) == 1 and panel.curves:
            _, y = material.runs[places[0]].series(panel.curves)
            ax.plot(material.runs[0].series(panel.curves)[0], y, color=_colour(look[group]), alpha=0.25, linewidth=0.7)
    for line in panel.lines:
        ax.plot(line.x, line.y, color=_colour(look[line.group]), linestyle=DASH[look[line.group].dash], linewidth=1.4)
    alike: dict[tuple[int, bool, bool], list[Point]] = {}
    for point in panel.points:
        alike.setdefault((point.group, point.cross, point.run is None), []).append(point)
    for (group, cross, mean), points in alike.items():
        mark, colour = "x" if cross else MARK[look[group].mark], _colour(look[group])
        size, alpha = (56, 1.0) if mean else (20, 0.65)
        x, y = [point.x for point in points], [point.y for point in points]
        ax.scatter(x, y, s=size, marker=mark, color=colour, alpha=alpha, linewidths=1.2)
    if panel.curves:
        _room(ax)
    if panel.rows:
        ax.set_yticks(range(len(panel.groups)), [plain(material.groups[group].label) for group in panel.groups])
        ax.set_ylim(len(panel.groups) - 0.5, -0.5)


def _room(ax: Axes) -> None:
    low, high = ax.get_ylim()
    if high - low < STILL * max(abs(low), abs(high)):
        ax.set_ylim(low - STILL * abs(low), high + STILL * abs(high))


def _ticks(x: Sequence[float]) -> Locator:
    """Choose the ticks of a logarithmic axis: 1, 2 and 5 with their powers of ten, or the ends where these are few."""
    usual, ends = LogLocator(subs=(1, 2, 5)), sorted({min(x, default=1.0), max(x, default=1.0)})
    inside = [tick for tick in usual.tick_values(ends[0], ends[-1]) if ends[0] <= tick <= ends[-1]]
    return usual if len(inside) > 1 else FixedLocator(ends)


def _curve(ax: Axes, curve: Curve, style: Style) -> None:
    ax.plot(curve.x, curve.y, color=_colour(style), linestyle=DASH[style.dash], linewidth=1.5)
    ax.fill_between(curve.x, curve.low, curve.high, color=_colour(style), alpha=0.15, linewidth=0)


def _colour(style: Style) -> str:
    return mixed(LIGHT[style.colour], style.pale)


def plain(text: str) -> str:
    """Keep matplotlib from reading a label with dollars as a formula."""
    return text.replace("$", r"\$")
