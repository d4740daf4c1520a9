"""What the command does: every stored batch, read with every gate under its checkpoint's weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from gatepo import build, checkpoint, config, durable
from gatepo.engine.policy import Policy
from gatepo.errors import UserError
from gatepo.formulas.gate import FormulaGate
from gatepo.model import load_model
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.gates.usable import require_usable
from gatepo.objective.surrogate import Objective
from gatepo.probe.figure import draw
from gatepo.probe.measure import Reading, measure
from gatepo.probe.report import as_json, report
from gatepo.probe.snapshots import Snapshot, snapshots
from gatepo.schema import ProbeConfig, TrainConfig
from gatepo.targets import made_outside


def probe(settings: ProbeConfig) -> None:
    """Read every stored batch with every gate; print a table, and leave probe.json and probe.png."""
    run = Path(settings.run)
    if not (run / "config.yaml").is_file():
        raise UserError(f"run must be the folder of a run, got {run}, which has no config.yaml; give outputs/...")
    trained = config.load(run / "config.yaml", trust=settings.trust)
    objectives = gate_objectives(settings, trained)
    readings: dict[str, list[Reading]] = {name: [] for name in objectives}
    cosines: list[torch.Tensor] = []
    stored = list(snapshots(run))
    for one in tqdm(stored, desc="probe", unit="batch", disable=len(stored) == 1):
        found, cosine_KK = readings_of(trained, one, objectives)
        cosines.append(cosine_KK)
        for name, reading in found.items():
            readings[name].append(reading)
    out = Path(settings.out) if settings.out else run
    durable.make_folder(out)
    cosine_KK = torch.stack(cosines).nanmean(dim=0)
    print(report(settings, objectives, readings, cosine_KK, stored))
    durable.write_text(out / "probe.json", json.dumps(as_json(readings, cosine_KK, stored), indent=2) + "\n")
    print(out / "probe.json")
    print(draw(readings, cosine_KK, out / "probe.png"))


def gate_objectives(settings: ProbeConfig, trained: TrainConfig) -> dict[str, Objective]:
    """Give the run's own objective with each of the gates in its place."""
    own = build.objective(trained)
    found = {}
    for name in settings.gates:
        gate = gate_of(name)
        require_usable(gate, settings.tau.temperatures)
        found[name] = replace(own, gate=gate, tau=settings.tau.at_start(gate))
    return found


def gate_of(text: str) -> Gate:
    """Make a gate from its name or as module.Class, with its own defaults, or else from a formula of a slope.

    Raises:
      UserError: no gate has this name, no such class can be imported, or the text is no formula.
    """
    if "." in text and all(part.isidentifier() for part in text.split(".")):
        outside: Gate = made_outside("gate", text, {}, "gates")
        return outside
    if not text.isidentifier():
        return FormulaGate(slope_text=text)
    if text not in gates.names():
        names = ", ".join(gates.names())
        raise UserError(f"gate must be one of {names}, got {text}; or write a formula of its slope, or module.Class")
    return gates.get(text)


def readings_of(
    trained: TrainConfig, stored: Snapshot, objectives: dict[str, Objective]
) -> tuple[dict[str, Reading], torch.Tensor]:
    """Give one batch under its checkpoint's weights: readings, and cosines between the gradients."""
    model = load_model(trained.model.path, build.device(), trained.model.attention)
    trained.model.adapter.read_checkpoint(model, trained.engine, stored.path / checkpoint.ENGINE)
    policy = Policy(model, trained.sampling.temperature, build.dtype(trained.model), trained.batch.head_mib)
    batch, anchor_NT = stored.tokens.to(build.device()), stored.anchor_NT.to(build.device())
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return measure(policy, learning, batch, anchor_NT, stored.totals, objectives)
