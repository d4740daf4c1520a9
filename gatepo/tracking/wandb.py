"""Weights and Biases, with the keys of ``metrics.jsonl``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatepo.errors import UserError
from gatepo.settings import one_of, option, setting
from gatepo.tracking.about import LONGEST_TAG, keep
from gatepo.tracking.charts import COMPLETIONS, FIGURES, Charts, completions_setting, every_setting

AXIS = "update"  # of every chart


@option("tracker", "wandb")
class Wandb:
    """Weights and Biases, with the keys of metrics.jsonl, completions, figures and results."""

    project: str = setting("The W&B project.", default="gatepo")
    mode: str = setting("The W&B mode.", default="offline", rule=one_of("offline", "online", "disabled"))
    entity: str | None = setting("The W&B user or team; null: the account's default.", default=None)
    title: str | None = setting("The run's name; null: what was typed, else its folder.", default=None)
    group: str | None = setting("The run's group; null: its multirun.", default=None)
    tags: list[str] = setting("Tags beside gate, model, data, experiment and method.", default_factory=list)
    notes: str | None = setting("The run's notes; null: its experiment's, and remarks.", default=None)
    completions: int = completions_setting()
    every: int = every_setting()

    def start(self, folder: Path, config: dict[str, Any]) -> Charts:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        screen = WandbScreen(self, folder, config)
        return Charts(screen, config["batch"]["iterations"], self.completions, self.every)


class WandbScreen:
    """One W&B run in the run's own folder.

    Args:
      chosen: the settings.
      folder: of the run; W&B's files go to ``folder/wandb``.
      config: the resolved config, shown beside the run.

    Its id is kept in ``folder/tracking.json``, so that a resumed run goes on in the same curves.
    """

    def __init__(self, chosen: Wandb, folder: Path, config: dict[str, Any]) -> None:
        import wandb  # slow to import, and only needed when chosen

        os.environ.setdefault("WANDB_QUIET", "true")  # its history of every metric would bury the end of the run
        self._wandb, about = wandb, keep(folder, config, "")
        try:
            self._run = wandb.init(
                dir=str(folder),
                project=chosen.project,
                entity=chosen.entity,
                mode=chosen.mode,  # type: ignore[arg-type]
                name=chosen.title or about.name,
                group=chosen.group or about.group,
                tags=[*dict.fromkeys([*about.tags, *(tag[:LONGEST_TAG] for tag in chosen.tags)])],
                notes=chosen.notes or about.notes or None,
                config=config,
                id=about.id,
                resume="allow",
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"tracker.mode must be one that works here, got {chosen.mode} ({str(error).splitlines()[0]}); type "
                "tracker.mode=offline, and later: wandb sync"
            ) from error
        self._run.define_metric(AXIS, hidden=True)
        self._run.define_metric("*", step_metric=AXIS)

    def show(self, update: int, values: Mapping[str, Any]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self._run.log({AXIS: update, **values}, step=update)

    def show_table(self, update: int, columns: list[str], rows: list[list[Any]]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self.show(update, {COMPLETIONS: self._wandb.Table(columns=[*columns], data=rows, allow_mixed_types=True)})

    def show_results(self, update: int, results: Mapping[str, float], figures: Sequence[Path]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self.show(update, {f"{FIGURES}{path.stem}": self._wandb.Image(str(path)) for path in figures})
        self._run.summary.update(dict(results))

    def close(self, finished: bool) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        self._run.finish(exit_code=0 if finished else 1)
