"""Show entropy and EUR in a W&B workspace: ``python -m gatepo.dashboard outputs/2026-11-27/13-48-38-0461fb``.

It is of a run, of a multirun, or, with ``--project`` alone, of all runs of a project; its sections are reward, entropy,
EUR by iteration and sign, ratio, gradient share and time. It is saved to W&B, or, without a connection, written into
``dashboard.json``, which a later ``python -m gatepo.dashboard dashboard.json`` saves.
"""

from __future__ import annotations

from gatepo.signals import listen

if __name__ == "__main__":
    listen()  # before what takes seconds to import

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gatepo import durable
from gatepo.cli import errors_as_one_line
from gatepo.errors import UserError
from gatepo.report.runs import Run, find_runs
from gatepo.tracking import about, workspace
from gatepo.tracking.charts import EVALUATION
from gatepo.tracking.wandb import Wandb

FILE = "dashboard.json"
NAME = "Entropy and EUR"


def of_folder(folder: Path, project: str | None, entity: str | None) -> Any:
    """Make the workspace of a run, or of the runs of a multirun, over the keys that they have logged.

    Args:
      folder: of the run, or one that holds several.
      project: W&B project; None: that of the runs.
      entity: W&B user or team; None: that of the runs.
    Raises:
      UserError: there is no run, or W&B has not followed it.
    """
    runs = find_runs(folder)
    if not runs:
        raise UserError(f"{folder} holds no run: no metrics.jsonl in or below it; give outputs/... or multirun/...")
    followed = [(run, one) for run in runs if (one := about.read(run.folder)) and (project or _of_wandb(run.config))]
    if not followed:
        raise UserError(
            f"{folder} must have been followed by W&B, got {len(runs)} runs that were not; train with tracker=wandb, "
            f"or see their curves without it: python -m gatepo.report {folder}"
        )
    chosen = _of_wandb(followed[0][0].config)
    single = len(followed) == 1 and followed[0][0].folder == folder
    title = followed[0][1].name if single else f"{folder.name}, {len(runs)} runs"
    return workspace.build(
        f"{NAME}: {title}",
        project or chosen.get("project", Wandb().project),
        entity or chosen.get("entity"),
        {key for run in runs for key in _keys(run)},
        _filter([one for _, one in followed]),
    )


def _keys(run: Run) -> Iterator[str]:
    """Give what trackers have of a run."""
    for row in run.metrics:
        yield from row
    yield from (f"{EVALUATION}{name}" for name in run.config["data"]["evaluation"])


def _filter(runs: list[about.About]) -> str:
    """Choose runs in W&B's words: by their group where all have the same, else by their ids."""
    groups = {run.group for run in runs}
    if len(groups) == 1 and None not in groups:
        return f"Metric('Group') == '{groups.pop()}'"
    return " or ".join(f"Metric('ID') == '{run.id}'" for run in runs)


def _of_wandb(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the settings of W&B in a resolved config, alone or among several trackers; none where it did not follow."""
    tracker = config.get("tracker") or {}
    found = (one for one in (tracker, *(tracker.get("each") or {}).values()) if {"project", "entity"} <= set(one))
    return next(found, {})


def _made(options: argparse.Namespace) -> tuple[Any, Path]:
    """Make what was asked for, or read it; and say where it is written."""
    target = options.target
    if target is None:
        project = options.project or Wandb().project
        title = f"{NAME}: {project}"
        return workspace.build(title, project, options.entity, workspace.USUAL, ""), options.out or Path(FILE)
    if target.is_file():
        return workspace.read_back(target), options.out or target
    return of_folder(target, options.project, options.entity), options.out or target / FILE


def main() -> None:
    """Run ``python -m gatepo.dashboard`` and the script ``gatepo-dashboard``."""
    parser = argparse.ArgumentParser(prog="python -m gatepo.dashboard", description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", help="a run's folder, a multirun's, or a dashboard.json")
    parser.add_argument("--project", help="the W&B project (default: that of the runs, else gatepo)")
    parser.add_argument("--entity", help="the W&B user or team (default: that of the runs, else your account's)")
    parser.add_argument("--out", type=Path, help="write it into this file, and do not save it to W&B")
    options = parser.parse_args()
    with errors_as_one_line():
        made, file = _made(options)
        if options.out is None:
            try:
                print(f"saved to {workspace.save(made)}")
                return
            except UserError as error:
                print(f"not saved to W&B ({error}); later: python -m gatepo.dashboard {file}")
        durable.write_text(file, workspace.written(made))
        print(f"written to {file}")


if __name__ == "__main__":
    main()
