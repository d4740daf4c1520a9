"""Reading a run back from its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from gatepo.errors import UserError
from gatepo.json_lines import rows

LAST_BATCHES = 20  # a run's "last" figures are means over so many rollout batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The config and the metrics of one run; ``summary`` is empty until it has finished."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, float]]  # one row per update
    summary: dict[str, Any]

    @property
    def iterations(self) -> int:
        """mu, passes over one rollout batch."""
        return int(self.config["batch"]["iterations"])

    @property
    def eur_key(self) -> str:
        """EUR of the last iteration that there was; that of the first is 1 and says nothing."""
        keys = [f"eur/iteration_{k}" for k in range(self.iterations, 0, -1)]
        return next((key for key in keys if any(key in row for row in self.metrics)), "eur")

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Give (updates, values) of a metric, where it was logged."""
        rows = [row for row in self.metrics if key in row]
        return [int(row["update"]) for row in rows], [row[key] for row in rows]

    def first_and_last(self, key: str) -> dict[str, float]:
        """Give the metric's first value, and its mean over the last 20 rollout batches.

        Raises:
          UserError: no update has it.
        """
        _, values = self.series(key)
        if not values:
            raise UserError(f"{self.folder / 'metrics.jsonl'} must have {key}, got no line with it; copy it anew")
        per_batch = len(values) / (len(self.metrics) / self.iterations)
        return {"first": values[0], "last": fmean(values[-max(1, round(LAST_BATCHES * per_batch)) :])}


def read_run(folder: Path) -> Run:
    """Read the run in ``folder``.

    Raises:
      UserError: the folder holds no run, or one without a single update, or a file of it is damaged.
    """
    try:
        (folder / "metrics.jsonl").stat()
        config = _config(folder / "config.yaml")
    except OSError as error:
        raise UserError(f"{folder} is not the folder of a run ({error.strerror}: {error.filename})") from error
    metrics = rows(folder / "metrics.jsonl")
    if not metrics:
        raise UserError(f"{folder}: metrics.jsonl has no line; the run has not finished an update")
    for number, row in enumerate(metrics, 1):
        wrong = [key for key, value in ({"update": None} | row).items() if not isinstance(value, int | float)]
        if wrong:
            raise UserError(f"{folder / 'metrics.jsonl'}:{number} must have a number as its {wrong[0]}; take it out")
    return Run(folder=folder, config=config, metrics=metrics, summary=_summary(folder / "summary.json"))


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} must be the YAML of a run's settings, got {str(error).splitlines()[0]}") from error
    match found:
        case {"batch": {"iterations": int(iterations)}} if iterations > 0:
            return found
    raise UserError(f"{path} must hold all settings of a run, got none for batch.iterations; copy it anew")


def _summary(path: Path) -> dict[str, Any]:
    """Read what a finished run says of itself; nothing where it is not finished."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for accuracy in found.get("evaluation", {}).values():
            float(accuracy["before"]), float(accuracy["after"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} must be the summary of a finished run, got a damaged one; copy it anew") from error
    summary: dict[str, Any] = found
    return summary


def find_runs(root: Path) -> list[Run]:
    """Read every run in or below ``root``, by folder."""
    return [read_run(file.parent) for file in sorted(root.rglob("metrics.jsonl")) if file.stat().st_size]


def label(run: Run, runs: list[Run]) -> str:
    """Name a run by its settings that are not the same in all runs."""
    flat = [_flatten(other.config) for other in runs]
    own = _flatten(run.config)
    differing = [key for key in own if any(other.get(key) != own[key] for other in flat)]
    return ", ".join(f"{key.removesuffix('.name')}={own[key]}" for key in differing) or run.folder.name


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
