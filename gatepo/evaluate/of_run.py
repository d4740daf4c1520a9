"""What a run brings into its evaluation, where the command line chooses nothing else: its sets and its reward."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatepo import config
from gatepo.errors import UserError
from gatepo.run_folder import CHECKPOINTS, CONFIG
from gatepo.schema import EvaluationConfig, TrainConfig

OWN = ("data", "reward")


def folder_of(path: Path) -> Path:
    """Give the folder of a run, of which ``path`` is that or a checkpoint's."""
    return path.parent.parent if path.parent.name == CHECKPOINTS else path


def settings_of(path: Path, trust: bool, instead: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read the settings with which a run was trained.

    Args:
      path: the run's folder, or that of a checkpoint.
      trust: whether code that they name may run.
      instead: of :func:`gatepo.config.load`; code that it replaces is not needed.
    Raises:
      UserError: there is no run, or its config names code that is not trusted.
    """
    run = folder_of(path)
    if not (run / CONFIG).is_file():
        raise UserError(f"run must be the folder of a run, got {run}, which has no {CONFIG}; give outputs/...")
    return config.load(run / CONFIG, trust=trust, instead=instead)


def graded_by(asked: EvaluationConfig) -> dict[str, Any]:
    """Give the reward of an evaluation, to stand in the place of the run's own."""
    return {"reward": config.plain(asked)["reward"]}


def with_its_own(asked: EvaluationConfig, chosen: Collection[str]) -> EvaluationConfig:
    """Put the run's sets and its reward in the place of the command's defaults.

    Args:
      asked: the command's settings.
      chosen: those of ``data`` and ``reward`` of which the command line says something; they stay.
    Raises:
      UserError: the run has no evaluation set, and none was chosen.
    """
    if asked.run is None or set(OWN) <= set(chosen):
        return asked
    trained = settings_of(Path(asked.run), asked.trust, graded_by(asked) if "reward" in chosen else None)
    if "data" not in chosen and not trained.data.evaluation:
        raise UserError(
            f"data must name evaluation sets, since {asked.run} has none of its own; type e.g. data=math500"
        )
    return replace(
        asked,
        data=asked.data if "data" in chosen else trained.data,
        reward=asked.reward if "reward" in chosen else trained.reward,
    )
