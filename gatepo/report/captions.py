"""From which runs a figure comes: runs, seeds, settings, commit; and what its marks stand for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from gatepo.report import gates
from gatepo.report.panels import Figure, Material, ranges
from gatepo.report.runs import Run

KEYS = (
    *("gate.name", "tau.pos", "tau.neg", "model.path", "data", "reward.name", "reward._target_", "batch.prompts"),
    *("batch.num_generations", "batch.iterations", "optimizer.lr", "updates"),
)  # the settings that say most of a run; all others are listed at the end of the page


def settings_line(material: Material, groups: Sequence[int]) -> str:
    """Name the chief settings that the runs of some groups have alike."""
    runs = [run for group in groups for run in material.group_runs(group)]
    first, *others = [run.settings | _data(run) for run in runs]
    keys = dict.fromkeys([*KEYS, *material.varied])
    alike = {key: first[key] for key in keys if key in first and all(o.get(key) == first[key] for o in others)}
    if "tau.pos" not in alike or "tau.neg" not in alike or not any(gates.takes_tau(run) for run in runs):
        alike = {key: value for key, value in alike.items() if not key.startswith("tau.")}
    return ", ".join(
        f"{key.removesuffix('.name').removesuffix('._target_').removesuffix('.path')}={shown(value)}"
        for key, value in alike.items()
    )


def _data(run: Run) -> dict[str, str]:
    """Name the sources of a run's data, and their file where all have one."""
    match run.config.get("data"):
        case {"sources": dict(sources), **others}:
            file = others.get("path")
            return {"data": "+".join(map(str, sources)) + (f" ({PurePath(str(file)).name})" if file else "")}
    return {}


def marks_line(material: Material, figure: Figure) -> str:
    """Say what bold and pale lines, bands, crosses and the size of marks stand for, as far as a figure has them."""
    panels, several = figure.panels, any(len(material.groups[group].runs) > 1 for group in figure.groups)
    points = [point for panel in panels for point in panel.points]
    found = []
    if any(panel.curves for panel in panels):
        alone = "line: running mean, pale: every update" if len(material.runs) == 1 else "line: running mean"
        found.append("line: mean over seeds, band: lowest to highest seed" if several else alone)
    one_run = len(material.runs) == 1
    if one_run and material.iterations() > 1 and any(panel.curves == "eur" for panel in panels):
        found.append("EUR is 1 in the first iteration over each rollout batch")
    found += filter(None, [chance_line(material, figure.groups)])
    if any((panel.curves or "").startswith("reward") for panel in panels):
        found += filter(None, [scales_line(material, figure.groups)])
    if any(panel.log_x and "half-width" in panel.x for panel in panels):
        found += filter(None, [gates.left_out(material.runs).strip(" .")])
    if any(point.run is None for point in points):
        found.append("small marks: runs, large: their mean")
    if any(point.cross for point in points):
        found.append(f"cross: {material.counted} fell below the first batch's")
    return ", ".join(found)


def chance_line(material: Material, groups: Sequence[int]) -> str:
    """Say that settings with one run each may differ by chance; nothing where one of them has several."""
    alone = len(groups) > 1 and all(len(material.groups[group].runs) == 1 for group in groups)
    return "one run of each setting: differences may be chance" if alone else ""


def scales_line(material: Material, groups: Sequence[int]) -> str:
    """Say that runs were rewarded for different things; nothing where one reward is that of all."""
    runs = [material.runs[place] for group in groups for place in material.groups[group].runs]
    rewards = {json.dumps(run.config.get("reward"), sort_keys=True, default=str) for run in runs}
    return "rewards of different kinds: their heights do not compare" if len(rewards) > 1 else ""


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
