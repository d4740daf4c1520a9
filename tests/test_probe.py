"""The probe tells what a gate would have done: checked against what it did."""

import json
from pathlib import Path

import pytest
import torch
from command import gatepo
from hydra import compose, initialize_config_dir
from test_run import metrics

from gatepo.errors import UserError
from gatepo.presets import register, yaml_dir
from gatepo.probe.__main__ import task
from gatepo.probe.measure import cosines, dots

register()

RUN = ("updates=2", "batch.prompts=4", "threads=1", "evaluate.limit=1", "checkpoint.every=1", "checkpoint.keep=null")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "run"
    done = gatepo("train", "gate=erf", "tau=t13", *RUN, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def probed(run: Path, *arguments: str) -> tuple[dict, str]:
    done = gatepo("probe", f"run={run}", *arguments)
    assert done.returncode == 0, done.stderr
    assert (run / "probe.png").read_bytes()[:4] == b"\x89PNG"
    return json.loads((run / "probe.json").read_text()), done.stdout


def test_the_runs_own_gate_reads_as_the_run_logged_it(run: Path) -> None:
    """A checkpoint between two iterations holds the tokens and the weights of the next update: EUR and norm are its."""
    found, printed = probed(run, "gates=[erf,clip]", "tau=t13")
    assert [b["update"] for b in found["batches"]] == [1, 2]
    assert [b["iteration"] for b in found["batches"]] == [1, 2]
    own, logged = found["gates"]["erf"][0], metrics(run)[1]
    for key in ("eur", "eur/passed", "eur/positive", "eur/negative", "coefficient/mean", "grad_norm"):
        assert own[key] == pytest.approx(logged[key], rel=1e-4), key
    assert "erf" in printed
    assert "cosine of gradients" in printed


def test_gates_are_compared_on_the_same_tokens(run: Path) -> None:
    found, _ = probed(run, "gates=[clip,sigmoid,erf,arctan,softsign]", "tau=paper")
    widest, narrowest = found["gates"]["sigmoid"][0], found["gates"]["softsign"][0]
    assert widest["eur"] > narrowest["eur"]  # half-widths 1.763 / tau and 0.766 / tau
    cosine = torch.tensor(list(found["cosine"].values()))
    torch.testing.assert_close(cosine, cosine.T)
    torch.testing.assert_close(cosine.diagonal(), torch.ones(5))
    assert cosine.min() < 0.9999
    assert all(gate[0]["noise_over_signal"] > 0 for gate in found["gates"].values())


def test_matched_widths_bring_the_gates_together(run: Path) -> None:
    paper, _ = probed(run, "gates=[sigmoid,softsign]", "tau=paper")
    matched, printed = probed(run, "gates=[sigmoid,softsign]", "tau=matched", "tau.half_width=0.1")

    def apart(found: dict) -> float:
        return abs(found["gates"]["sigmoid"][0]["eur"] - found["gates"]["softsign"][0]["eur"])

    assert apart(matched) < apart(paper)
    assert "17.63" in printed  # 1.763 / 0.1


def test_cosines_worked_by_hand() -> None:
    # (1, 0) and (1, 1): 1 / sqrt(2)
    got = cosines(dots([torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])], part=1))
    torch.testing.assert_close(got, torch.tensor([[1.0, 2**-0.5], [2**-0.5, 1.0]], dtype=torch.float64))


def test_what_cannot_be_probed_is_said(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    for arguments, words in (
        ([f"run={run}", "tau=target_eur"], "tau must be one that stands still, constant or matched, got target_eur"),
        (["run=nowhere"], "run must be the folder of a run, got nowhere"),
        ([f"run={tmp_path}"], "run must be a run with checkpoints"),
        ([f"run={run}", "gates=[erf]"], r"gates must name two different gates or more, got \['erf'\]"),
        ([f"run={run}", "gates=[erf,tanh]"], "gate must be one of sigmoid, erf"),
        ([f"run={run}", "gates=[erf,clip]", "tau=matched"], "tau.half_width must be a width that the gate can have"),
    ):
        with (
            initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"),
            pytest.raises(UserError, match=words),
        ):
            task(compose("probe", arguments))
