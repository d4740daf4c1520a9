"""How the jobs of a multirun are run on this machine; no job rests on it."""

from __future__ import annotations

from gatepo.settings import at_least, section, setting

LAUNCHER = "hydra_plugins.gatepo.Processes"  # whose jobs gatepo.train prepares


@section("")
class MultirunSettings:
    """How ``-m`` runs its jobs on this machine: hydra/launcher=processes. No job rests on it."""

    jobs: int = setting("Runs that train at the same time, beside -m.", default=1, rule=at_least(1))
    objective: str | None = setting(
        "The number of summary.json, such as evaluation.hard.after, that a sweeper which searches makes best.",
        default=None,
    )
