"""Several trackers at once: ``'tracker=[wandb,tensorboard]'``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatepo.settings import option, setting
from gatepo.tracking.base import require_installed
from gatepo.tracking.trackers import Trackers


@option("tracker", "several")
class Several:
    """Several trackers: 'tracker=[wandb,tensorboard]', with tracker.wandb.mode=online."""

    each: dict[str, Any] = setting("The trackers, by name.", default_factory=dict, each="tracker")

    def require_installed(self) -> None:
        """See :class:`~gatepo.tracking.base.NeedsPackage`."""
        for one in self.each.values():
            require_installed(one)

    def start(self, folder: Path, config: dict[str, Any]) -> Trackers:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        return Trackers(list(self.each.values()), folder, config)
