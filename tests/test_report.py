"""Reading runs back, and what the figures of a run's end are."""

import json
from pathlib import Path

import pytest
import yaml

from gatepo.errors import UserError
from gatepo.report.curves import Curves, running_mean
from gatepo.report.figures import draw
from gatepo.report.groups import label
from gatepo.report.runs import find_runs, read_run


def made(folder: Path, gate: str, updates: int, slope: float = 0.01, iterations: int = 2) -> Path:
    """A run whose reward grows by ``slope`` an update, and whose later iterations have EUR 0.9."""
    folder.mkdir(parents=True)
    config = {"gate": {"name": gate}, "tau": {"pos": 10.0}, "batch": {"iterations": iterations}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = []
    for u in range(1, updates + 1):
        k = (u - 1) % iterations + 1
        eur = 1.0 if k == 1 else 0.9
        rows.append({"update": u, "reward": slope * u, "entropy": 0.5, "eur": eur, f"eur/iteration_{k}": eur})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_last_is_the_mean_over_the_last_fifth_whatever_mu_is(tmp_path: Path, iterations: int) -> None:
    run = read_run(made(tmp_path / "a", "erf", updates=100, iterations=iterations))
    # updates 81 to 100 are the last fifth: mean 0.01 * 90.5
    assert run.first_and_last("reward") == pytest.approx({"first": 0.01, "last": 0.905})


def test_eur_of_the_last_iteration_has_every_other_update(tmp_path: Path) -> None:
    run = read_run(made(tmp_path / "a", "erf", updates=100))
    assert run.eur_key == "eur/iteration_2"
    assert run.series("eur/iteration_2")[0] == list(range(2, 101, 2))
    assert run.first_and_last("eur/iteration_2") == pytest.approx({"first": 0.9, "last": 0.9})


def test_a_short_run_takes_its_last_batch(tmp_path: Path) -> None:
    # a fifth of three updates is less than a rollout batch of two: updates 2 and 3
    assert read_run(made(tmp_path / "a", "erf", updates=3)).first_and_last("reward") == pytest.approx(
        {"first": 0.01, "last": 0.025}
    )


def test_runs_are_kept_apart_by_what_differs(tmp_path: Path) -> None:
    made(tmp_path / "0", "erf", 4)
    made(tmp_path / "1", "clip", 4)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "metrics.jsonl").touch()  # stopped before its first update
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "metrics.jsonl").write_text('{"update": 1, "rew')  # and within its first line
    runs = find_runs(tmp_path)
    assert [label(run, runs) for run in runs] == ["erf", "clip"]
    assert label(runs[0], runs[:1]) == "erf, tau 10"
    for path in draw(runs, tmp_path):
        assert path.read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in tmp_path.glob("*.png")} == {"reward.png", "entropy_eur.png"}


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        read_run(tmp_path)


def test_the_running_mean_is_centred() -> None:
    line = [float(i) for i in range(30)]
    assert running_mean(line) == pytest.approx(line)  # a straight line stays where it is
    spike = [0.0] * 10 + [1.0] + [0.0] * 10
    assert running_mean(spike)[8:13] == pytest.approx([1 / 5] * 5)


def test_a_run_with_one_iteration_done_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("batch: {iterations: 2}\n")
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "reward": 1.0, "eur": 1.0, "eur/iteration_1": 1.0}\n')
    run = read_run(tmp_path)
    assert run.eur_key == "eur/iteration_1"
    assert run.first_and_last(run.eur_key) == {"first": 1.0, "last": 1.0}


def test_a_point_of_a_curve_is_whole_rollout_batches(tmp_path: Path) -> None:
    """1,000 updates at mu = 4: 100 bins would be 10 updates, 12 are whole batches. EUR of a bin: (1 + 3 x 0.9) / 4."""
    runs = [read_run(made(tmp_path / "a", "erf", updates=1000, iterations=4))]
    curves = Curves(runs)
    assert curves.widths() == [12]
    curve = curves.of_run(0, "eur")
    assert curve.x[:2] == [6.5, 18.5]
    assert curve.y[:80] == pytest.approx([0.925] * 80)
