"""Weights and Biases, with the keys of ``metrics.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class WandbTracker:
    """One W&B run in the run's own folder.

    Args:
      folder: of the run; W&B's files go to ``folder/wandb``.
      project: W&B project.
      mode: ``offline``, ``online`` or ``disabled``.
      config: the resolved config, shown beside the run.
    """

    def __init__(self, folder: Path, project: str, mode: str, config: dict[str, Any]) -> None:
        import wandb  # slow to import, and only needed when chosen

        self._run = wandb.init(dir=str(folder), project=project, mode=mode, name=folder.name, config=config)  # type: ignore[arg-type]

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._run.log(metrics, step=update)

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._run.finish()
