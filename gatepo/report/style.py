"""Colours, dashes and marks of groups.

The colours are those of Okabe and Ito (2008, Color Universal Design), which colour-blind readers keep apart, without
their yellow and black, which no ground of ours carries; a lighter set is for a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatepo.report.groups import Group

LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b8609a", "#d08c00", "#3a9bd9", "#6b6b6b", "#8a7d00")
DARK = ("#58aee6", "#ff8a4c", "#2cc79a", "#e59cc8", "#f0b840", "#93d0f7", "#b9b9b9", "#d8c84e")
DASHES = ("solid", "dash", "dot", "dashdot")  # plotly's words
MARKS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "pentagon", "star", "hexagon")
PALEST = 0.5  # share of the ground in the palest shade


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a group looks: place of its colour, share of the ground mixed into it, dash, mark."""

    colour: int
    pale: float
    dash: str
    mark: str


def styles(groups: Sequence[Group], shown: Sequence[int]) -> dict[int, Style]:
    """Give each group that a figure shows a look, by its place.

    Up to eight have a colour each. Where there are more, each gate has one, in shades and dashes.
    """
    if len(shown) <= len(LIGHT):
        return {group: _style(place, 0.0, 0) for place, group in enumerate(shown)}
    gates = list(dict.fromkeys(groups[group].gate for group in shown))
    if len(gates) == 1:
        return {group: _style(place, 0.0, place // len(LIGHT)) for place, group in enumerate(shown)}
    found = {}
    for group in shown:
        own = [other for other in shown if groups[other].gate == groups[group].gate]
        at = own.index(group)
        found[group] = _style(gates.index(groups[group].gate), PALEST * at / max(1, len(own) - 1), at)
    return found


def _style(colour: int, pale: float, dash: int) -> Style:
    colour %= len(LIGHT)
    return Style(colour=colour, pale=pale, dash=DASHES[dash % len(DASHES)], mark=MARKS[colour])


def mixed(colour: str, share: float, ground: str = "#ffffff") -> str:
    """Mix a share of the ground into a colour.

    >>> mixed("#000000", 0.5)
    '#808080'
    """
    parts = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(c + (g - c) * share):02x}" for c, g in parts)
