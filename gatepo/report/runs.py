"""Reading a run back from its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from gatepo.errors import UserError
from gatepo.json_lines import rows
from gatepo.measures import ACCURACY
from gatepo.run_folder import WORDS, starts

LAST = 5  # a run's "last" figures are means over the last 1/LAST of its updates, whatever mu is
FEW = 32  # answers of a rollout batch, below which their share is mostly chance
LAST_EUR = "eur/last"  # EUR of a run's last iteration, whichever that is
EUR, ANSWER = "eur", "rewards/answer/mean"
GATE, FORMULA = "gate.name", "custom"  # a gate that is a formula has this name

CODE = "code of "  # begins the key of the body of a class or function from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The config and the metrics of one run; ``summary`` is empty until it has finished."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, float]]  # one row per update
    summary: dict[str, Any]
    starts: list[dict[str, Any]] = field(default_factory=list)  # of run.json, oldest first
    _series: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by their dotted keys; behind them the code from outside, by the first digits of its SHA-256.

        A formula that lies in a file of its own, chosen by ``gate=NAME``, has that name in the place of ``custom``.
        """
        named = {GATE: self.name_of_formula} if self.name_of_formula else {}
        outside = (self.starts[-1].get("outside") if self.starts else None) or {}
        code = {f"{CODE}{path}": str(digest)[:7] for path, digest in outside.items() if digest}
        return flatten(self.config) | named | code

    @property
    def name_of_formula(self) -> str | None:
        """The name of the user's own file that holds the gate's formula; None where there is no such file."""
        if flatten(self.config).get(GATE) != FORMULA or not self.starts:
            return None
        typed = [str(word).partition("=") for word in self.starts[0].get(WORDS, ())]
        names = [name for key, _, name in typed if key == "gate" and name != FORMULA]
        return names[-1] if names else None

    @property
    def iterations(self) -> int:
        """mu, passes over one rollout batch."""
        return int(self.config["batch"]["iterations"])

    @property
    def seed(self) -> Any:
        """The seed, where the config has one."""
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        """Whether it has written its summary, which is the last thing that it does."""
        return bool(self.summary)

    @property
    def commit(self) -> str:
        """The commit of the last start, as short as git shows it, else the version; ``+`` where files differed."""
        code = (self.starts[-1].get("code") if self.starts else None) or {}
        commit, version = code.get("commit"), code.get("version")
        if commit:
            return f"{str(commit)[:7]}{'+' if code.get('dirty') else ''}"
        return f"gatepo {version}" if version else "unknown"

    @property
    def eur_key(self) -> str:
        """EUR of the last iteration that there was; that of the first is 1 and says nothing."""
        keys = [f"eur/iteration_{k}" for k in range(self.iterations, 0, -1)]
        return next((key for key in keys if any(key in row for row in self.metrics)), "eur")

    @property
    def measures(self) -> str:
        """What its evaluation measured (:mod:`gatepo.measures`); a version that did not say so is asked by its rows."""
        said = self.summary.get("measures")
        return str(said) if said else ACCURACY if self.answer_key == ANSWER else "mean reward"

    @property
    def answer_key(self) -> str:
        """What says how many answers are right: their part of the reward, else the whole reward."""
        return ANSWER if any(ANSWER in row for row in self.metrics) else "reward"

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Give (updates, values) of a metric, where it was logged; found once, for a report asks often."""
        if key not in self._series:
            name = self.eur_key if key == LAST_EUR else key
            rows = [row for row in self.metrics if name in row]
            self._series[key] = [int(row["update"]) for row in rows], [row[name] for row in rows]
        return self._series[key]

    def first_and_last(self, key: str) -> dict[str, float]:
        """Give the metric's first value, and its mean over the last fifth of the updates.

        The first value of EUR as eq. 12 averages it is the mean over the first rollout batch: in the first iteration
        alone it is 1.

        Raises:
          UserError: no update has it.
        """
        updates, values = self.series(key)
        if not values:
            raise UserError(f"{self.folder / 'metrics.jsonl'} must have {key}, got no line with it; copy it anew")
        end = int(self.metrics[-1]["update"])
        length = max(self.iterations, end / LAST)
        late = [value for update, value in zip(updates, values, strict=True) if update > end - length]
        first = fmean(values[: self.iterations]) if key == EUR else values[0]
        return {"first": first, "last": fmean(late or values[-1:])}

    def mean(self, key: str) -> float | None:
        """Give the metric's mean over the whole run; None where it was never logged."""
        _, values = self.series(key)
        return fmean(values) if values else None

    @property
    def collapsed(self) -> bool:
        """Whether it ends below where it began: the last fifth of its answers below the first batch's.

        Nothing is said of a run of fewer than 5 rollout batches, or of fewer than 32 answers in one.
        """
        batch = self.config["batch"]
        answers = prod(batch[key] for key in ("prompts", "num_generations") if isinstance(batch.get(key), int))
        if 1 < answers < FEW or int(self.metrics[-1]["update"]) < LAST * self.iterations:
            return False
        found = self.first_and_last(self.answer_key)
        return found["last"] < found["first"]


def read_run(folder: Path, keep: Collection[str] | None = None) -> Run:
    """Read the run in ``folder``.

    Args:
      folder: of the run.
      keep: the metrics to hold in memory, by their names or by the first part of these; None holds all.
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
    names: dict[str, str] = {}  # one text for each key, not one for each line
    for number, row in enumerate(metrics, 1):
        for key, value in row.items() if "update" in row else [("update", None)]:
            if not isinstance(value, int | float):
                raise UserError(f"{folder / 'metrics.jsonl'}:{number} must have a number as its {key}; take it out")
        metrics[number - 1] = {
            names.setdefault(key, key): value
            for key, value in row.items()
            if keep is None or key in keep or key.partition("/")[0] in keep
        }
    return Run(
        folder=folder,
        config=config,
        metrics=metrics,
        summary=_summary(folder / "summary.json"),
        starts=starts(folder),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} must be the YAML of a run's settings, got {str(error).splitlines()[0]}") from error
    match found:
        case {"batch": {"iterations": int(iterations)}} if iterations > 0:
            return found
    raise UserError(f"{path} must hold all settings of a run, got none for batch.iterations; copy it anew")


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where it was built


def _summary(path: Path) -> dict[str, Any]:
    """Read what a finished run says of itself; nothing where it is not finished."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for score in found.get("evaluation", {}).values():
            float(score["before"]), float(score["after"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} must be the summary of a finished run, got a damaged one; copy it anew") from error
    summary: dict[str, Any] = found
    return summary


def find_runs(*roots: Path, keep: Collection[str] | None = None) -> list[Run]:
    """Read every run in or below the folders, each once; those that have not finished an update are left out."""
    files = {file.resolve(): file for root in roots for file in sorted(root.rglob("metrics.jsonl"))}
    return [read_run(file.parent, keep) for file in files.values() if _has_a_line(file)]


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep one of the folders that hold the same run, the one that went furthest; say of each other whose copy it is.

    Runs are the same if they have the same settings and the same first start, to the second and the command.
    """
    kept: dict[str, Run] = {}
    copies: list[tuple[Run, str]] = []
    for place, run in enumerate(runs):
        key = _identity(run) or str(place)
        if key in kept:
            fewer, kept[key] = sorted((run, kept[key]), key=lambda one: len(one.metrics))
            copies.append((fewer, key))
        else:
            kept[key] = run
    lines = [f"{run.folder} holds the same run as {kept[key].folder}, and is left out" for run, key in copies]
    return list(kept.values()), lines


def _identity(run: Run) -> str | None:
    if not run.starts:
        return None
    first = {key: value for key, value in run.starts[0].items() if key not in ("end", "exit")}
    return json.dumps([first, run.config], sort_keys=True, default=str)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give all settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _has_a_line(file: Path) -> bool:
    with file.open("rb") as opened:
        return any(line.endswith(b"\n") for line in opened)


def folders(runs: Sequence[Run]) -> list[str]:
    """Name the runs' folders as short as keeps them apart, without what all begin with."""
    paths = [run.folder.absolute() for run in runs]
    common = [set(parts) for parts in zip(*(path.parent.parts for path in paths), strict=False)]
    length = next((i for i, parts in enumerate(common) if len(parts) > 1), len(common))
    return ["/".join(path.parts[length:]) for path in paths]
