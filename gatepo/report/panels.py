"""What a figure shows, apart from how it is drawn: one description for the files and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gatepo.report.curves import Curves
from gatepo.report.groups import Group, differing, grouped
from gatepo.report.runs import ANSWER, Run, folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run in a panel, or the mean of a group where ``run`` is None; a cross where it collapsed."""

    x: float
    y: float
    group: int
    run: int | None = None
    cross: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line in the colour of a group."""

    x: Sequence[float]
    y: Sequence[float]
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes: the curves of a metric, or points and lines. With ``rows``, groups lie at y = 0, 1, ..."""

    title: str
    x: str
    y: str
    curves: str | None = None  # key of the metric
    groups: tuple[int, ...] = ()  # whose curves or rows
    points: Sequence[Point] = ()
    lines: Sequence[Line] = ()
    log_x: bool = False
    rows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels with a title, what they show in words, and the groups in them. ``name`` is that of its files."""

    name: str
    title: str
    says: str
    panels: Sequence[Panel]
    groups: tuple[int, ...]
    columns: int = 2
    labels: tuple[str, ...] = ()  # of the groups, where it is not their own


class Material:
    """The runs of a report with all that its figures and tables need of them."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.groups: list[Group] = grouped(runs)
        self.varied = differing(runs)
        self.curves = Curves(runs)
        self.names = folders(runs)
        self.everyone = tuple(range(len(self.groups)))

    def group_runs(self, group: int) -> list[Run]:
        """Give the runs of a group."""
        return [self.runs[place] for place in self.groups[group].runs]

    def labels(self, figure: Figure) -> list[str]:
        """Give what a figure's legend says of its groups: what differs within the figure."""
        groups = [self.groups[group] for group in figure.groups]
        if figure.labels or len(groups) < 2:
            return list(figure.labels) or [group.label for group in groups]
        alike = set.intersection(*(set(group.parts) for group in groups))
        taus = {part for group in groups for part in group.parts if part.startswith("tau ")}
        alike |= taus if len(taus) == 1 else set()  # that of the gates that take one
        return [", ".join(part for part in group.parts if part not in alike) or group.label for group in groups]

    def has(self, key: str) -> bool:
        """Say whether any run has logged a metric."""
        return any(run.series(key)[0] for run in self.runs)

    @property
    def counted(self) -> str:
        """Name what a run's end is judged by: its answers, or its reward where no part of that is an answer."""
        graded = {run.answer_key == ANSWER for run in self.runs}
        return "answers or reward" if len(graded) > 1 else "answers" if graded.pop() else "reward"

    def iterations(self) -> int:
        """Give the largest mu."""
        return max(run.iterations for run in self.runs)

    def seeds(self, groups: Sequence[int]) -> list[str]:
        """List the seeds of some groups, each once."""
        found = {run.seed for group in groups for run in self.group_runs(group) if run.seed is not None}
        return [str(seed) for seed in sorted(found, key=lambda seed: (not isinstance(seed, int), str(seed).zfill(12)))]

    def commits(self, groups: Sequence[int]) -> list[str]:
        """List the commits with which the runs of some groups were made, each once."""
        return list(dict.fromkeys(run.commit for group in groups for run in self.group_runs(group)))

    def places(self, groups: Sequence[int]) -> list[int]:
        """List the runs of some groups by their places."""
        return sorted(place for group in groups for place in self.groups[group].runs)


def with_means(points: Sequence[Point]) -> list[Point]:
    """Put the mean of each group behind its points, where it has several."""
    by_group: dict[int, list[Point]] = {}
    for point in points:
        by_group.setdefault(point.group, []).append(point)
    means = [
        Point(x=fmean(p.x for p in own), y=fmean(p.y for p in own), group=group) for group, own in by_group.items()
    ]
    return [*points, *means]


def ranges(numbers: Sequence[int]) -> str:
    """Write whole numbers shortly: 1-3, 7.

    >>> ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
