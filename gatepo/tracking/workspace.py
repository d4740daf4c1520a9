"""The workspace of W&B that shows entropy and EUR: its sections and panels, over the keys that runs log."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gatepo.errors import UserError
from gatepo.tracking.charts import COMPLETIONS, FIGURES, SUMMARY
from gatepo.tracking.wandb import AXIS

PACKAGE = "wandb-workspaces"
AREA = "stacked-area"
MOST_RUNS = 50  # in a panel
FIGURE_KEYS = (f"{FIGURES}reward", f"{FIGURES}entropy_eur")
COLUMNS = tuple(f"{SUMMARY}{name}/last" for name in ("reward", "entropy", "eur"))
"""What the list of runs shows."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart over updates."""

    title: str
    keys: tuple[str, ...]  # patterns: * stands for any text
    style: str = "line"  # or AREA, of what adds up


SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Reward": (
        Panel("Mean reward", ("reward",)),
        Panel("Reward by part", ("rewards/*/mean",)),
        Panel("Accuracy", ("evaluation/*",)),
        Panel("Spread within groups", ("reward_std",)),
        Panel("Groups of equal rewards", ("frac_reward_zero_std",)),
        Panel("Completions, tokens", ("completions/mean_length", "completions/min_length", "completions/max_length")),
        Panel("Unfinished completions", ("completions/clipped_ratio",)),
    ),
    "Entropy": (
        Panel("Entropy, nats per token", ("entropy",)),
        Panel("KL(pi_old, pi)", ("kl/sampling",)),
        Panel("Penalised KL", ("kl", "kl/coefficient")),
        Panel("Sampler against trainer, nats", ("sampling/sampling_logp_difference/*",)),
    ),
    "EUR by iteration and sign": (
        Panel("EUR, last iteration", ("eur",)),
        Panel("EUR by iteration", ("eur/iteration_*",)),
        Panel("EUR by sign of A", ("eur/positive", "eur/negative")),
        Panel("What takes from EUR", ("eur/ledger/*",), AREA),
        Panel("EUR of unchanged weights", ("eur/noise_floor", "eur/noise_floor/*")),
        Panel("EUR over tokens, and gradient let through", ("eur/token_mean", "eur/passed")),
        Panel("tau", ("tau/pos", "tau/neg")),
    ),
    "Ratio": (
        Panel("Ratio", ("ratio/mean", "ratio/p01", "ratio/p99")),
        Panel("Extreme ratios", ("ratio/min", "ratio/max")),
        Panel("Tokens that the gate clips", ("clip_ratio/*",)),
        Panel("Coefficient", ("coefficient/mean",)),
        Panel("Effective sample size", ("coefficient/ess",)),
        Panel("Bounded log-ratios", ("ratio/clamped_frac",)),
    ),
    "Gradient share": (
        Panel("Share of the gradient by |log r|", ("gradient_share/*",), AREA),
        Panel("Gradient norm", ("grad_norm",)),
        Panel("Tails of the gradient", ("gradient/kurtosis", "gradient/tail_index")),
        Panel("Loss", ("loss",)),
        Panel("Learning rate", ("learning_rate",)),
    ),
    "Time": (
        Panel("Seconds per update", ("step_time",)),
        Panel(
            "Seconds by part",
            tuple(f"time/{part}" for part in ("rollout", "sync", "reward", "train", "telemetry", "other")),
            AREA,
        ),
        Panel("Measured over least time", ("time/measured_over_least",)),
        Panel("Tokens", ("num_tokens",)),
    ),
}
USUAL = (
    *("reward", "rewards/answer/mean", "rewards/format/mean", "reward_std", "frac_reward_zero_std"),
    *(f"completions/{name}" for name in ("mean_length", "min_length", "max_length", "clipped_ratio")),
    *("entropy", "kl/sampling", *(f"sampling/sampling_logp_difference/{name}" for name in ("mean", "max"))),
    *("eur", "eur/iteration_1", "eur/iteration_2", "eur/positive", "eur/negative", "eur/token_mean", "eur/passed"),
    *(f"eur/ledger/{cause}" for cause in ("rounding", "sampler", "staleness", "drift")),
    *("eur/noise_floor", "eur/noise_floor/trainer", "tau/pos", "tau/neg"),
    *(f"ratio/{name}" for name in ("mean", "min", "max", "p01", "p99", "clamped_frac")),
    *("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "coefficient/mean", "coefficient/ess"),
    *(f"gradient_share/below_{bound}" for bound in (0.01, 0.05, 0.2, 1.0)),
    *("gradient_share/above_1.0", "grad_norm", "gradient/kurtosis", "gradient/tail_index", "loss", "learning_rate"),
    *("step_time", *(f"time/{part}" for part in ("rollout", "sync", "reward", "train", "telemetry", "other"))),
    "num_tokens",
)
"""What every run logs with two iterations and the paper's reward; for a project, of which no run is at hand."""


def panels(keys: Collection[str]) -> dict[str, list[tuple[Panel, list[str]]]]:
    """Give the panels of each section with those of their keys that there are; one without any is left out.

    >>> panels({"entropy", "eur/iteration_2"})["EUR by iteration and sign"][0][1]
    ['eur/iteration_2']
    """
    found = {}
    for name, section in SECTIONS.items():
        chosen = [(panel, [k for p in panel.keys for k in sorted(keys) if fnmatchcase(k, p)]) for panel in section]
        found[name] = [(panel, list(dict.fromkeys(own))) for panel, own in chosen if own]
    return found


def build(title: str, project: str, entity: str | None, keys: Collection[str], runs: str) -> Any:
    """Make the workspace.

    Args:
      title: shown above it.
      project: W&B project.
      entity: W&B user or team.
      keys: that the runs log.
      runs: which of the project's, in W&B's words; none: all.
    """
    require_installed()
    import wandb_workspaces.reports.v2 as charts
    import wandb_workspaces.workspaces as workspaces

    def chart(panel: Panel, own: list[str]) -> Any:
        return charts.LinePlot(title=panel.title, x=AXIS, y=own, title_x=AXIS, plot_type=panel.style)

    sections = [
        workspaces.Section(name=name, is_open=True, panels=[chart(panel, own) for panel, own in found])
        for name, found in panels(keys).items()
    ]
    read = [charts.WeavePanelSummaryTable(table_name=COMPLETIONS), charts.MediaBrowser(media_keys=list(FIGURE_KEYS))]
    return workspaces.Workspace(
        name=_plain(title),
        entity=entity or "",
        project=project,
        sections=[*sections, workspaces.Section(name="Completions and figures", panels=read)],
        settings=workspaces.WorkspaceSettings(x_axis=AXIS, max_runs=MOST_RUNS),
        runset_settings=workspaces.RunsetSettings(
            filters=runs, pinned_columns=[f"summary:{column}" for column in COLUMNS]
        ),
    )


def _plain(title: str) -> str:
    """Leave out what the library takes for an emoji: a sign such as = or >."""
    return "".join(" " if unicodedata.category(sign).startswith("S") else sign for sign in title)


def written(workspace: Any) -> str:
    """Give a workspace as JSON, as W&B keeps it."""
    return str(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=2)) + "\n"


def read_back(path: Path) -> Any:
    """Read a workspace that was written.

    Raises:
      UserError: it is none.
    """
    require_installed()
    from wandb_workspaces.workspaces import Workspace, internal

    try:
        return Workspace._from_model(internal.View.model_validate_json(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} must be a dashboard that was written before, got other content ({reason})") from error


def save(workspace: Any) -> str:
    """Save a workspace to W&B; returns its address.

    Raises:
      UserError: there is no account or no connection.
    """
    import wandb

    try:
        if not wandb.login(prompt=False):
            raise UserError("no account here: wandb login")
        if not workspace.entity:
            workspace.entity = wandb.Api().default_entity or ""
        return str(workspace.save().url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise UserError(str(error).splitlines()[0]) from error


def require_installed() -> None:
    """Refuse to begin without the library.

    Raises:
      UserError: it is not there.
    """
    from importlib.util import find_spec

    if find_spec("wandb_workspaces") is None:
        raise UserError(f"a dashboard needs the package {PACKAGE}, got none here; type: pip install {PACKAGE}")
