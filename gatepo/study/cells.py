"""The runs of a study: each cell's settings, its folder, whether it is done, and whether it may be taken as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn

from gatepo import config, overrides, record, resume
from gatepo.errors import UserError
from gatepo.launch.multirun import Job
from gatepo.numbers import DIGEST
from gatepo.presets import yaml_dir
from gatepo.report.runs import Run, read_run
from gatepo.run_folder import CONFIG, METRICS, is_finished
from gatepo.schema import TrainConfig
from gatepo.study.claims import Cell, Claim, slug
from gatepo.study.evidence import Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One run of a study."""

    cell: Cell
    seed: int
    settings: TrainConfig
    folder: Path

    @property
    def words(self) -> list[str]:
        """What the command line of this run has that others have otherwise."""
        return [*(f"{key}={value}" for key, value in self.cell), f"seed={self.seed}"]


def plan(
    experiment: str, claims: Iterable[Claim], seeds: Sequence[int], words: Sequence[str], folder: Path
) -> list[Planned]:
    """List every run that the claims need, each once although several claims use it, seed by seed.

    Args:
      experiment: what all runs share.
      claims: whose cells are run.
      seeds: of each cell.
      words: settings of all runs beside it.
      folder: of the study.
    """
    cells = dict.fromkeys(cell for claim in claims for cell in claim.cells)
    settings = {cell: _composed([f"+experiment={experiment}", *_typed(cell), *words]) for cell in cells}
    return [
        Planned(
            cell=cell,
            seed=seed,
            settings=replace(settings[cell], seed=seed, resume=resume.AUTO),
            folder=folder / slug(cell) / f"seed-{seed}",
        )
        for seed in seeds
        for cell in cells
    ]


def _typed(cell: Cell) -> list[str]:
    return [f"{key}={value}" for key, value in cell]


def _composed(words: Sequence[str]) -> TrainConfig:
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        return config.from_composed(TrainConfig, compose("train", overrides.prepared(words)))


def require_same(runs: Sequence[Planned]) -> None:
    """Refuse a study's folder in which a run was made with other settings, or by code that gives other numbers.

    What is still to be run is run by the code that is here, so that this must have made the rest as well. A study that
    is whole may be judged by any code: one alone must have made it.

    Raises:
      UserError: the first such run, with what differs.
    """
    there = [run for run in runs if (run.folder / METRICS).is_file() and (run.folder / CONFIG).is_file()]
    for run in there:
        _require_settings(run)
    whole = all(resume.is_done(run.folder, run.settings) for run in runs)
    wanted = _codes(there[0]) if whole and there else {DIGEST}
    for run in there:
        if len(_codes(run) | wanted) > 1:
            made, others = (", ".join(sorted(codes)) for codes in (_codes(run), wanted))
            raise UserError(
                f"the code must be what {run.folder} was made by, numbers {made} in its run.json, got {others}: "
                "gatepo, its libraries or Python can give other numbers now; check that out again, or type dir=FOLDER "
                "for another study"
            )


def _require_settings(run: Planned) -> None:
    then = yaml.safe_load((run.folder / CONFIG).read_text(encoding="utf-8"))
    now = resume.as_written(run.settings)
    for key, *values in [*resume.differences(then, now), ("updates", then.get("updates"), now["updates"])]:
        if values[0] != values[1]:
            raise UserError(
                f"{key} must be what {run.folder} was made with, {values[0]}, got {values[1]}; type dir=FOLDER for "
                "another study"
            )


def _codes(run: Planned) -> set[str]:
    """Give the digest of the code at each start of a run, each once."""
    return {str(start.get("code", {}).get("numbers")) for start in record.starts(run.folder)}


def jobs(runs: Iterable[Planned]) -> Iterator[JobReturn]:
    """Give each run as a job that is ready for :func:`gatepo.launch.multirun.run`, with a folder to begin in."""
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
        ready = JobReturn()
        ready.overrides = run.words
        finished = resume.is_done(run.folder, run.settings)
        ready._return_value = Job(settings=run.settings, folder=run.folder, finished=finished)
        yield ready


def listed(runs: Iterable[Planned]) -> list[list[str]]:
    """Give the words of each run that is not finished, for ``hydra/sweeper=cells``."""
    left = (run for run in runs if not resume.is_done(run.folder, run.settings))
    return [[*run.words, f"hydra.sweep.subdir={slug(run.cell)}/seed-{run.seed}"] for run in left]


def finished(runs: Iterable[Planned]) -> Runs:
    """Read the runs that have finished."""
    return {(run.cell, run.seed): read_run(run.folder) for run in runs if is_finished(run.folder)}


def coordinates(run: Run) -> tuple[float, float]:
    """Give log(half-width x lr) and log(lr / tau) of a run, from its settings; tau is that where A > 0."""
    settings = config.load(run.folder / CONFIG)
    pos = settings.tau.at_start(settings.gate).pos
    rate = float(getattr(settings.optimizer, "lr"))  # noqa: B009
    return math.log(settings.gate.half_width(pos) * rate), math.log(rate / pos)


def registered(path: Path, digests: dict[str, str], words: Sequence[str]) -> dict[str, str]:
    """Give the digests of the claims as they were when the study's first run began, and write them down if it is now.

    Args:
      path: ``study.json`` of the study's folder.
      digests: as they are.
      words: settings that no claim has; what is run with such is not what was registered.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        held = {"claims": {} if words else digests, "words": list(words), "code": record.code()}
        path.write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["claims"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} must be the start of a study, got other or damaged content; move it away") from error
    return {} if words else found
