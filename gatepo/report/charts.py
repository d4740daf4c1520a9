"""What the page draws from: groups, curves and figures as plain data, with every curve in it once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gatepo.report.curves import Curve
from gatepo.report.panels import Figure, Material, Panel
from gatepo.report.style import DARK, LIGHT, styles

DIGITS = 4  # that a number has on the page


def data(material: Material, figures: Sequence[Figure]) -> dict[str, Any]:
    """Give all that the page's script needs; it adds nothing but colours and the reader's choices."""
    xs = _Shared()
    keys = dict.fromkeys(panel.curves for figure in figures for panel in figure.panels if panel.curves)
    return {
        "colours": {"light": LIGHT, "dark": DARK},
        "groups": [{"label": group.label, "runs": list(group.runs)} for group in material.groups],
        "runs": [{"name": name, "seed": run.seed} for name, run in zip(material.names, material.runs, strict=True)],
        "curves": {key: _of_metric(material, key, xs) for key in keys},
        "figures": [_figure(material, figure, xs) for figure in figures],
        "x": xs.arrays,
    }


class _Shared:
    """Arrays of x, which most curves have alike: each is kept once and named by its place."""

    def __init__(self) -> None:
        self.arrays: list[list[float]] = []
        self._places: dict[tuple[float, ...], int] = {}

    def place(self, x: Sequence[float]) -> int:
        key = tuple(float(f"{value:.6g}") for value in x)
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append(list(key))
        return self._places[key]


def _of_metric(material: Material, key: str, xs: _Shared) -> dict[str, Any]:
    """Give the curve of each group, and of each run where a group has several."""
    groups: dict[int, Any] = {}
    runs: dict[int, Any] = {}
    for number, group in enumerate(material.groups):
        curve = material.curves.of_group(group.runs, key)
        if not curve.x:
            continue
        band = [short(curve.low), short(curve.high)] if len(group.runs) > 1 else []
        groups[number] = [*_line(curve, xs), *band]
        if len(group.runs) > 1:
            runs |= {place: _line(material.curves.of_run(place, key), xs) for place in group.runs}
    return {"groups": groups, "runs": runs}


def _line(curve: Curve, xs: _Shared) -> list[Any]:
    return [xs.place(curve.x), short(curve.y)]


def _figure(material: Material, figure: Figure, xs: _Shared) -> dict[str, Any]:
    look = styles(material.groups, figure.groups)
    return {
        "name": figure.name,
        "labels": dict(zip(figure.groups, material.labels(figure), strict=True)),
        "styles": {g: [s.colour, round(s.pale, 2), s.dash, s.mark] for g, s in look.items()},
        "panels": [_panel(panel, xs) for panel in figure.panels],
    }


def _panel(panel: Panel, xs: _Shared) -> dict[str, Any]:
    found: dict[str, Any] = {"title": panel.title, "x": panel.x, "y": panel.y, "log": panel.log_x, "rows": panel.rows}
    found |= {"curves": panel.curves, "groups": panel.groups}
    if panel.lines:
        found["lines"] = [[line.group, xs.place(line.x), short(line.y)] for line in panel.lines]
    if panel.points:
        found["points"] = [[p.group, *short([p.x, p.y]), p.run, int(p.cross)] for p in panel.points]
    return found


def short(values: Sequence[float]) -> list[float | None]:
    """Round to the digits that a reader can see; what is no number becomes None."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]
