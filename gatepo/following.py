"""What follows a run beside its own files: the trackers that were chosen, with what the run is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatepo import run_folder
from gatepo.config import plain
from gatepo.presets import yaml_dir
from gatepo.remarks import remarks
from gatepo.schema import TrainConfig
from gatepo.tracking.about import keep
from gatepo.tracking.base import NoTracker
from gatepo.tracking.trackers import Trackers


def begin(config: TrainConfig, folder: Path, first: bool) -> Trackers:
    """Start what follows a run; nothing follows the ranks behind the first.

    Raises:
      UserError: a tracker cannot start.
    """
    if not first or isinstance(config.tracker, NoTracker):
        return Trackers([], folder, {})
    resolved = plain(config)
    words = run_folder.words(folder)
    keep(folder, resolved, notes(config, words), words)
    return Trackers([config.tracker], folder, resolved)


def notes(config: TrainConfig, words: Sequence[str]) -> str:
    """Give what is known of the settings: what their experiment's file says of itself, and remarks.

    Args:
      config: the settings.
      words: of the command line.
    """
    bare = [word.lstrip("+") for word in words]
    chosen = [word.removeprefix("experiment=") for word in bare if word.startswith("experiment=")]
    return "\n".join([*(line for name in chosen for line in _head(name)), *remarks(config, words)])


def _head(experiment: str) -> list[str]:
    """Read the comment at the head of an experiment's file; nothing where Hydra found it elsewhere."""
    file = yaml_dir("experiments") / f"{experiment}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").strip() for line in lines[:end]]
