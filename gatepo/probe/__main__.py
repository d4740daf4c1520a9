"""``python -m gatepo.probe run=outputs/... 'gates=[clip,sigmoid,erf,arctan,softsign]' tau=paper``.

Takes the rollout batches that a run stored in its checkpoints (checkpoint.every=N checkpoint.keep=null) and says what
each gate would have done with the very same tokens under the very same weights.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from gatepo import build, checkpoint, cli, config
from gatepo.engine.policy import Policy
from gatepo.errors import UserError
from gatepo.formulas.option import FormulaGate
from gatepo.model import load_model
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.surrogate import Objective
from gatepo.plan.__main__ import table
from gatepo.probe.figure import draw
from gatepo.probe.measure import Reading, read
from gatepo.probe.stored import Stored, stored_batches
from gatepo.schema import ProbeConfig, TrainConfig

COLUMNS = {
    "eur": "EUR",
    "eur/positive": "EUR, A > 0",
    "eur/negative": "EUR, A < 0",
    "coefficient/mean": "mean r f'(r)",
    "coefficient/max": "largest",
    "grad_norm": "gradient norm",
    "noise_over_signal": "noise / signal",
}


def task(composed: DictConfig) -> None:
    """Read every stored batch with every gate; print a table, and leave probe.json and probe.png."""
    settings = config.from_composed(ProbeConfig, composed)
    run = Path(settings.run)
    if not (run / "config.yaml").is_file():
        raise UserError(f"run must be the folder of a run, got {run}, which has no config.yaml; give outputs/...")
    trained = config.load(run / "config.yaml")
    objectives = gate_objectives(settings, trained)
    readings: dict[str, list[Reading]] = {name: [] for name in objectives}
    cosines: list[torch.Tensor] = []
    stored = list(stored_batches(run))
    for one in tqdm(stored, desc="probe", unit="batch", disable=len(stored) == 1):
        found, cosine_KK = read_stored(trained, one, objectives)
        cosines.append(cosine_KK)
        for name, reading in found.items():
            readings[name].append(reading)
    out = Path(settings.out) if settings.out else run
    out.mkdir(parents=True, exist_ok=True)
    cosine_KK = torch.stack(cosines).nanmean(dim=0)
    print(report(settings, objectives, readings, cosine_KK, stored))
    (out / "probe.json").write_text(json.dumps(as_json(readings, cosine_KK, stored), indent=2) + "\n", encoding="utf-8")
    print(out / "probe.json")
    print(draw(readings, cosine_KK, out / "probe.png"))


def gate_objectives(settings: ProbeConfig, trained: TrainConfig) -> dict[str, Objective]:
    """The run's own objective with each of the gates in its place."""
    own = build.objective(trained)
    found = {}
    for name in settings.gates:
        gate = gate_of(name)
        build.require_usable(gate, settings.tau.temperatures)
        found[name] = replace(own, gate=gate, tau=settings.tau.at_start(gate))
    return found


def gate_of(text: str) -> Gate:
    """Make a gate from its name, with its own defaults, or, where that is no single word, from a formula of a slope.

    Raises:
      UserError: no gate has this name, or the text is no formula.
    """
    if not text.isidentifier():
        return FormulaGate(slope_text=text)
    if text not in gates.names():
        raise UserError(f"gate must be one of {', '.join(gates.names())}, got {text}; or write a formula of its slope")
    return gates.get(text)


def read_stored(
    trained: TrainConfig, stored: Stored, objectives: dict[str, Objective]
) -> tuple[dict[str, Reading], torch.Tensor]:
    """One batch under its checkpoint's weights: readings, and cosines between the gradients."""
    model = load_model(trained.model.path, build.device(), trained.model.attention)
    trained.engine.read_weights(model, stored.path / checkpoint.ENGINE)
    policy = Policy(model, trained.sampling.temperature, build.dtype(trained.model))
    batch, anchor_NT = stored.batch.to(build.device()), stored.anchor_NT.to(build.device())
    return read(policy, list(model.parameters()), batch, anchor_NT, stored.totals, objectives)


def report(
    settings: ProbeConfig,
    objectives: dict[str, Objective],
    readings: dict[str, list[Reading]],
    cosine_KK: torch.Tensor,
    stored: list[Stored],
) -> str:
    """Figures by gate, means over the batches, and the cosines between their gradients."""
    batches = ", ".join(f"update {s.update} (after {s.iteration} iterations)" for s in stored)
    rows: list[tuple[str, ...]] = [("gate", "tau.pos", "tau.neg", "half-width", *COLUMNS.values())]
    for name, found in readings.items():
        tau, gate = objectives[name].tau, objectives[name].gate
        means = mean_figures(found)
        figures = (f"{means[key]:.4g}" if key in means else "" for key in COLUMNS)
        rows.append((name, f"{tau.pos:.4g}", f"{tau.neg:.4g}", f"{gate.half_width(tau.pos):.3g}", *figures))
    cosine_rows: list[tuple[str, ...]] = [("cosine of gradients", *readings)]
    for name, row in zip(readings, cosine_KK.tolist(), strict=True):
        cosine_rows.append((name, *(f"{value:.4f}" for value in row)))
    return f"{settings.run}: {batches}\n\n{table(rows)}\n\n{table(cosine_rows)}\n"


def mean_figures(found: list[Reading]) -> dict[str, float]:
    """Means over the batches, of the figures that every batch has."""
    all_figures = [reading.figures() for reading in found]
    shared = [key for key in all_figures[0] if all(key in figures for figures in all_figures)]
    return {key: fmean(figures[key] for figures in all_figures) for key in shared}


def as_json(readings: dict[str, list[Reading]], cosine_KK: torch.Tensor, stored: list[Stored]) -> dict[str, object]:
    """Everything that was printed, batch by batch."""
    return {
        "batches": [{"update": s.update, "iteration": s.iteration} for s in stored],
        "gates": {name: [reading.figures() for reading in found] for name, found in readings.items()},
        "cosine": dict(zip(readings, cosine_KK.tolist(), strict=True)),
    }


def main() -> None:
    """Entry point of ``python -m gatepo.probe`` and of the script ``gatepo-probe``."""
    cli.run("probe", task)


if __name__ == "__main__":
    main()
