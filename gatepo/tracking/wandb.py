"""Weights and Biases, with the keys of ``metrics.jsonl``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from gatepo.durable import write_text
from gatepo.settings import one_of, option, setting


@option("tracker", "wandb")
class Wandb:
    """Weights and Biases, with the keys of metrics.jsonl."""

    project: str = setting("The W&B project.", default="gatepo")
    mode: str = setting("The W&B mode.", default="offline", rule=one_of("offline", "online", "disabled"))

    def start(self, folder: Path, config: dict[str, Any]) -> WandbTracker:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        return WandbTracker(folder, self.project, self.mode, config)


class WandbTracker:
    """One W&B run in the run's own folder.

    Args:
      folder: of the run; W&B's files go to ``folder/wandb``.
      project: W&B project.
      mode: ``offline``, ``online`` or ``disabled``.
      config: the resolved config, shown beside the run.

    Its id is kept in ``folder/wandb-id``, so that a resumed run goes on in the same curves.
    """

    def __init__(self, folder: Path, project: str, mode: str, config: dict[str, Any]) -> None:
        import wandb  # slow to import, and only needed when chosen

        identity = folder / "wandb-id"
        if not identity.is_file():
            write_text(identity, secrets.token_hex(4))
        self._run = wandb.init(
            dir=str(folder),
            project=project,
            mode=mode,  # type: ignore[arg-type]
            name=folder.name,
            config=config,
            id=identity.read_text(encoding="utf-8"),
            resume="allow",
        )

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._run.log(metrics, step=update)

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._run.finish()
