"""What follows a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gatepo.errors import UserError
from gatepo.settings import option


class Tracker(Protocol):
    """A tracker receives every update's metrics under the same keys, in order."""

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """Take the metrics of an update; ``update`` counts optimizer steps from 1."""
        ...

    def close(self) -> None:
        """End: the run is over, or was cut off."""
        ...


@runtime_checkable
class ResultsTracker(Tracker, Protocol):
    """A tracker that takes completions, accuracies and results too."""

    def samples(self, update: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the completions of one prompt, as ``completions.jsonl`` has them."""
        ...

    def accuracy(self, update: int, accuracy: Mapping[str, float]) -> None:
        """Take the accuracy on each evaluation set before update 1 (``update`` is 0) and after the last."""
        ...

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Take ``summary.json`` and the figures of a run that has finished."""
        ...


class TrackerOption(Protocol):
    """What is chosen by ``tracker=NAME``: a tracker beside metrics.jsonl, which is written in any case."""

    def start(self, folder: Path, config: dict[str, Any]) -> Tracker | None:
        """Make the tracker.

        Args:
          folder: of the run. :func:`gatepo.tracking.about.read` gives what the run is called.
          config: the resolved config as nested dicts.
        """
        ...


@runtime_checkable
class NeedsPackage(Protocol):
    """An option whose library is not installed with gatepo."""

    def require_installed(self) -> None:
        """Refuse to begin without it.

        Raises:
          UserError: it is not there.
        """
        ...


def require_installed(option: object) -> None:
    """Refuse an option whose library is not there, before anything is loaded.

    Raises:
      UserError: what to install.
    """
    if isinstance(option, NeedsPackage):
        option.require_installed()


def require_package(tracker: str, package: str) -> None:
    """Refuse to begin without a package.

    Raises:
      UserError: it is not there.
    """
    if find_spec(package) is None:
        raise UserError(
            f"tracker={tracker} must have the package {package}, got none here; type: pip install {package}"
        )


@option("tracker", "none")
class NoTracker:
    """metrics.jsonl only."""

    def start(self, folder: Path, config: dict[str, Any]) -> None:
        """See :class:`TrackerOption`."""
