"""Trackio: W&B's words on this machine, without an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatepo.settings import option, setting
from gatepo.tracking.about import keep
from gatepo.tracking.base import require_package
from gatepo.tracking.charts import COMPLETIONS, FIGURES, Charts, completions_setting, every_setting


@option("tracker", "trackio")
class Trackio:
    """Trackio's local data base: trackio show --project gatepo."""

    project: str = setting("The Trackio project.", default="gatepo")
    space: str | None = setting("A Space of the hub, USER/NAME, that is logged to; null: this machine.", default=None)
    group: str | None = setting("The run's group; null: its multirun.", default=None)
    completions: int = completions_setting()
    every: int = every_setting()

    def require_installed(self) -> None:
        """See :class:`~gatepo.tracking.base.NeedsPackage`."""
        require_package("trackio", "trackio")

    def start(self, folder: Path, config: dict[str, Any]) -> Charts:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        self.require_installed()
        screen = TrackioScreen(self, folder, config)
        return Charts(screen, config["batch"]["iterations"], self.completions, self.every)


class TrackioScreen:
    """One Trackio run, which a resumed run finds again by its name.

    Args:
      chosen: the settings.
      folder: of the run.
      config: the resolved config, shown beside the run.
    """

    def __init__(self, chosen: Trackio, folder: Path, config: dict[str, Any]) -> None:
        import trackio

        about = keep(folder, config, "")
        self._trackio = trackio
        self._run = trackio.init(
            project=chosen.project,
            name=about.unique_name.replace("/", "-"),  # it is the name of a folder too
            group=chosen.group or about.group,
            config={**config, "tags": about.tags, "notes": about.notes},
            space_id=chosen.space,
            resume="allow",
            embed=False,
        )

    def show(self, update: int, values: Mapping[str, Any]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self._run.log(dict(values), step=update)

    def show_table(self, update: int, columns: list[str], rows: list[list[Any]]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self.show(update, {COMPLETIONS: self._trackio.Table(columns=columns, data=rows)})

    def show_results(self, update: int, results: Mapping[str, float], figures: Sequence[Path]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        images = {f"{FIGURES}{path.stem}": self._trackio.Image(str(path)) for path in figures}
        self.show(update, {**results, **images})

    def close(self, finished: bool) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self._trackio.finish()
