"""The launcher of :mod:`gatepo.launch.multirun`, here because Hydra finds launchers in the package hydra_plugins alone.

Every program that uses Hydra imports this; so it imports gatepo only when it launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn


class Processes(BasicLauncher):
    """Prepares every job of a multirun, as Hydra's own launcher does, and then runs them, ``jobs`` at a time."""

    def __init__(self, jobs: int, objective: str | None) -> None:
        super().__init__()
        self._jobs, self._objective = jobs, objective

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See :class:`hydra.plugins.launcher.Launcher`. All jobs that failed carry the same error, which names them."""
        from gatepo.launch.multirun import run

        assert self.config is not None
        prepared = super().launch(job_overrides, initial_job_idx)
        return run(prepared, initial_job_idx, Path(self.config.hydra.sweep.dir), self._jobs, self._objective)
