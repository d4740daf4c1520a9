"""From which runs a figure comes: runs, seeds, settings, commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gatepo.report.groups import flatten
from gatepo.report.panels import Material, ranges

KEYS = (
    *("gate.name", "tau.pos", "tau.neg", "model.path", "batch.prompts", "batch.num_generations", "batch.iterations"),
    *("optimizer.lr", "updates"),
)  # the settings that say most of a run; all others are listed at the end of the page


def settings_line(material: Material, groups: Sequence[int]) -> str:
    """Name the chief settings that the runs of some groups have alike."""
    first, *others = [flatten(run.config) for group in groups for run in material.group_runs(group)]
    keys = dict.fromkeys([*KEYS, *material.varied])
    alike = {key: first[key] for key in keys if key in first and all(o.get(key) == first[key] for o in others)}
    if "tau.pos" not in alike or "tau.neg" not in alike:
        alike = {key: value for key, value in alike.items() if not key.startswith("tau.")}
    return ", ".join(
        f"{key.removesuffix('.name').removesuffix('.path')}={shown(value)}" for key, value in alike.items()
    )


def seeds_line(material: Material, groups: Sequence[int]) -> str:
    """Name the seeds, whole numbers in ranges."""
    seeds = material.seeds(groups)
    whole = [int(seed) for seed in seeds if seed.isdecimal()]
    words = ", ".join(filter(None, [ranges(whole), *(seed for seed in seeds if not seed.isdecimal())]))
    return f"seed{'s' if len(seeds) > 1 else ''} {words}" if seeds else "no seed known"


def runs_line(material: Material, groups: Sequence[int]) -> str:
    """Count the runs, and say how many of them go on."""
    places = material.places(groups)
    going = sum(not material.runs[place].finished for place in places)
    if len(places) == 1:
        return "1 run, unfinished" if going else "1 run"
    return f"{len(places)} runs, {going} of them unfinished" if going else f"{len(places)} runs"


def commits_line(material: Material, groups: Sequence[int]) -> str:
    """Name the commits of the code, or versions where these are all that is known; + stands for changed files."""
    found = material.commits(groups)
    commits = [name for name in found if " " not in name]
    versions = [name for name in found if " " in name]
    return ", ".join([*([f"commit {', '.join(commits)}"] if commits else []), *versions])


def shown(value: Any) -> str:
    """Write a setting's value shortly."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
