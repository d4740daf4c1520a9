"""TensorBoard, by torch's writer of its event files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gatepo.settings import option
from gatepo.tracking.about import keep
from gatepo.tracking.base import require_package
from gatepo.tracking.charts import COMPLETIONS, FIGURES, Charts, completions_setting, every_setting

FOLDER = "tensorboard"  # in that of the run


@option("tracker", "tensorboard")
class TensorBoard:
    """TensorBoard's event files in the run's folder: tensorboard --logdir outputs."""

    completions: int = completions_setting()
    every: int = every_setting()

    def require_installed(self) -> None:
        """See :class:`~gatepo.tracking.base.NeedsPackage`."""
        require_package("tensorboard", "tensorboard")

    def start(self, folder: Path, config: dict[str, Any]) -> Charts:
        """See :class:`~gatepo.tracking.base.TrackerOption`."""
        self.require_installed()
        screen = TensorBoardScreen(folder, config)
        return Charts(screen, config["batch"]["iterations"], self.completions, self.every)


class TensorBoardScreen:
    """The event files of a run. What a cut off run wrote behind its checkpoint is purged as it goes on.

    Args:
      folder: of the run.
      config: the resolved config.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._path, self._config, self._about = folder / FOLDER, config, keep(folder, config, "")
        self._made: Any = None

    def show(self, update: int, values: Mapping[str, float]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        writer = self._writer(update)
        for key, value in values.items():
            writer.add_scalar(key, value, update)

    def show_table(self, update: int, columns: list[str], rows: list[list[Any]]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        named = [zip(columns, row, strict=True) for row in rows]
        blocks = ["\n\n".join(f"**{name}**\n\n{_indented(cell)}" for name, cell in cells) for cells in named]
        self._writer(update).add_text(COMPLETIONS, "\n\n---\n\n".join(blocks), update)

    def show_results(self, update: int, results: Mapping[str, float], figures: Sequence[Path]) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        from matplotlib.image import imread

        writer = self._writer(update)
        for path in figures:
            writer.add_image(f"{FIGURES}{path.stem}", imread(path)[..., :3], update, dataformats="HWC")
        self.show(update, results)

    def close(self, finished: bool) -> None:
        """See :class:`~gatepo.tracking.charts.Screen`."""
        if self._made is not None:
            self._made.close()

    def _writer(self, update: int) -> Any:
        """Give the writer, made when the first update is known: event files beyond it are of a run that was cut off."""
        if self._made is None:
            from torch.utils.tensorboard import SummaryWriter

            self._made = SummaryWriter(str(self._path), purge_step=update if self._path.is_dir() else None)
            lines = [self._about.name, f"tags: {', '.join(self._about.tags)}", self._about.notes]
            self._made.add_text("about", "\n\n".join(line for line in lines if line), update)
            self._made.add_text("config", _indented(yaml.safe_dump(self._config, sort_keys=False)), update)
        return self._made


def _indented(cell: Any) -> str:
    """Show a text as it is, whatever Markdown would make of it."""
    return "\n".join(f"    {line}" for line in str(cell).splitlines()) or "    "
