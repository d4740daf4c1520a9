"""The launcher of :mod:`gatepo.launch.multirun` and the sweeper of :mod:`gatepo.study`.

They are here because Hydra finds its plugins in the package hydra_plugins alone. Every program that uses Hydra imports
this; so it imports gatepo only when it launches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Processes(BasicLauncher):
    """Prepares every job of a multirun, as Hydra's own launcher does, and then runs them, ``jobs`` at a time."""

    def __init__(self, jobs: int, objective: str | None) -> None:
        super().__init__()
        self._jobs, self._objective = jobs, objective
        self._before: bytes | None = None  # what the folder's multirun.yaml was

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See :class:`hydra.plugins.launcher.Launcher`; the sweeper writes multirun.yaml behind this."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        file = Path(config.hydra.sweep.dir, "multirun.yaml")
        self._before = file.read_bytes() if file.is_file() else None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See :class:`hydra.plugins.launcher.Launcher`. All jobs that failed carry the same error, which names them.

        The multirun.yaml of an earlier grid in the folder stays where this one is refused in any of its jobs.
        """
        from gatepo.launch.multirun import run

        assert self.config is not None
        prepared = super().launch(job_overrides, initial_job_idx)
        folder = Path(self.config.hydra.sweep.dir)
        if self._before is not None and any(isinstance(job._return_value, Exception) for job in prepared):
            (folder / "multirun.yaml").write_bytes(self._before)
        return run(prepared, initial_job_idx, folder, self._jobs, self._objective)


class Cells(BasicSweeper):
    """Runs the jobs that a file lists, each by words of its own, which are no grid.

    Args:
      file: a JSON list of lists of words.
    """

    def __init__(self, file: str) -> None:
        super().__init__(max_batch_size=None)
        self._file = Path(file)

    def split_arguments(self, overrides: list[Any], max_batch_size: int | None) -> list[list[list[str]]]:
        """Put what was typed for all jobs before the words of each; see BasicSweeper."""
        typed = [f"{word.get_key_element()}={word.get_value_element_as_str()}" for word in overrides]
        return [[[*typed, *own] for own in json.loads(self._file.read_text(encoding="utf-8"))]]
