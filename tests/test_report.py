"""Reading runs back."""

import json
from pathlib import Path

import pytest
import yaml

from gatepo.errors import UserError
from gatepo.report.figures import _running_mean, draw
from gatepo.report.runs import find_runs, label, read_run
from gatepo.report.table import table


def made(folder: Path, gate: str, updates: int, slope: float = 0.01) -> Path:
    """A run whose reward grows by ``slope`` an update, and whose second iterations have EUR 0.9."""
    folder.mkdir(parents=True)
    config = {"gate": {"name": gate}, "tau": {"pos": 10.0}, "batch": {"iterations": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        {"update": u, "reward": slope * u, "entropy": 0.5, f"eur/iteration_{2 - u % 2}": 1.0 if u % 2 else 0.9}
        for u in range(1, updates + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_last_is_the_mean_over_twenty_rollout_batches(tmp_path: Path) -> None:
    run = read_run(made(tmp_path / "a", "erf", updates=100))
    # updates 61 to 100 are the last 20 rollout batches of two updates: mean 0.01 * 80.5
    assert run.first_and_last("reward") == pytest.approx({"first": 0.01, "last": 0.805})
    assert run.eur_key == "eur/iteration_2"
    assert run.series("eur/iteration_2")[0] == list(range(2, 101, 2))
    assert run.first_and_last("eur/iteration_2") == pytest.approx({"first": 0.9, "last": 0.9})


def test_a_short_run_takes_what_there_is(tmp_path: Path) -> None:
    assert read_run(made(tmp_path / "a", "erf", updates=3)).first_and_last("reward") == pytest.approx(
        {"first": 0.01, "last": 0.02}
    )


def test_runs_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    made(tmp_path / "0", "erf", 4)
    made(tmp_path / "1", "clip", 4)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "metrics.jsonl").touch()  # stopped before its first update
    runs = find_runs(tmp_path)
    assert [label(run, runs) for run in runs] == ["gate=erf", "gate=clip"]
    assert label(runs[0], runs[:1]) == "0"
    lines = table(runs).splitlines()
    assert lines[1].startswith("gate=erf")
    assert "0.010 -> 0.025" in lines[1]
    for path in draw(runs, tmp_path):
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        read_run(tmp_path)


def test_the_running_mean_is_centred() -> None:
    line = [float(i) for i in range(30)]
    assert _running_mean(line) == pytest.approx(line)  # a straight line stays where it is
    spike = [0.0] * 10 + [1.0] + [0.0] * 10
    assert _running_mean(spike)[5:16] == pytest.approx([1 / 11] * 11)


def test_a_run_with_one_iteration_done_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("batch: {iterations: 2}\n")
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "reward": 1.0, "eur": 1.0, "eur/iteration_1": 1.0}\n')
    run = read_run(tmp_path)
    assert run.eur_key == "eur/iteration_1"
    assert run.first_and_last(run.eur_key) == {"first": 1.0, "last": 1.0}
