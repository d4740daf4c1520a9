"""``run.json`` says what ran, and ``python -m gatepo.replay`` whether it comes out the same again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from command import gatepo
from conftest import REPO
from test_processes import SMALL as SMALL_ON_TWO
from test_processes import wait_for
from test_run import SMALL, metrics, untimed

from gatepo import record
from gatepo.errors import UserError
from gatepo.replay import _reasons, causes, changes, differing, first_difference

RUN = (*SMALL, "updates=2", "evaluate.limit=2", "checkpoint.every=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "run"
    done = gatepo("train", *RUN, f"hydra.run.dir={folder}", SECRET="hunter2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_says_what_ran(run: Path) -> None:
    (start,) = record.starts(run)
    assert start["command"].startswith("python -m gatepo.train updates=4 ") and "hydra.run.dir=" in start["command"]
    assert datetime.fromisoformat(start["start"]) <= datetime.fromisoformat(start["end"])
    assert (start["exit"], start["seed"], start["threads"], start["devices"]) == (0, 0, 1, 1)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False)
    assert start["code"]["commit"] == (head.stdout.strip() if head.returncode == 0 else None)
    assert set(start["code"]) == {"version", "numbers", "commit", "dirty"}
    assert {"python", "torch", "transformers", "hydra-core", "omegaconf", "numpy"} <= set(start["versions"])
    assert start["hardware"]["cores"] == len(os.sched_getaffinity(0)) and start["hardware"]["memory"] > 1 << 30
    assert start["hardware"]["cpu"] and start["hardware"]["instructions"]
    assert "hunter2" not in (run / "run.json").read_text()


def test_whether_the_code_was_changed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gatepo"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(record, "__file__", str(package / "record.py"))
    assert record.code()["commit"] is record.code()["dirty"] is None  # no checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    assert record.code()["dirty"] is False and len(record.code()["commit"]) == 40
    (package / "new.py").touch()
    assert record.code()["dirty"] is True


def test_every_end_that_a_process_can_see_is_written(tmp_path: Path, copy: Path) -> None:
    """Also of a run that was refused late, and behind the starts before; a killed one has no end."""
    (copy / "summary.json").unlink()
    (copy / "model" / "config.json").unlink()
    done = gatepo("train", f"resume={copy}")
    assert done.returncode == 0, done.stderr
    first, second = record.starts(copy)
    assert first["command"] != second["command"] == f"python -m gatepo.train resume={copy}"
    folder = tmp_path / "late"
    done = gatepo("train", *SMALL, "optimizer.lr=1e30", "optimizer.max_grad_norm=1e30", f"hydra.run.dir={folder}")
    (start,) = record.starts(folder)
    assert (start["exit"], start["end"] is None) == (done.returncode, False), done.stderr
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "gatepo.train", *SMALL, "updates=400", f"hydra.run.dir={killed}"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: (killed / "run.json").exists(), 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (start,) = record.starts(killed)
    assert (start["exit"], start["end"]) == (None, None)


def test_two_ranks_write_one_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = gatepo("train", *SMALL_ON_TWO, "updates=1", "devices=2", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    (start,) = record.starts(folder)
    assert (start["devices"], start["exit"]) == (2, 0)
    assert start["command"].startswith("python -m gatepo.train updates=")
    done = gatepo("replay", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"starts": 3}', '{"starts": [3]}', "[" * 100_000])
def test_starts_that_are_none_are_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json must be the starts of a run, got other or damaged content"):
        record.starts(tmp_path)


def test_a_run_comes_out_the_same(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    done = gatepo("replay", str(run), f"out={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: every metric to the bit; 2 updates compared; times (step_time, time/) are not" in done.stdout
    assert untimed(metrics(out)) == untimed(metrics(run))
    again = gatepo("replay", str(run), f"out={out}")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1), again.stderr
    assert f"out must be a folder without a run, got {out}" in again.stderr


def test_an_edited_metric_is_found(copy: Path) -> None:
    rows = metrics(copy)
    rows[1]["entropy"] = float.fromhex("0x1.0000000000001p0") * rows[1]["entropy"]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = gatepo("replay", str(copy))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "different from update 2 on: entropy " in done.stdout and " more" not in done.stdout
    assert "nothing in run.json differs; was config.yaml or metrics.jsonl edited?" in done.stdout
    assert copy.with_name("run-replay").is_dir()


def test_what_differs_is_named_as_the_cause(copy: Path) -> None:
    """Another seed, by an edited config, and another number of threads than there were."""
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump(config | {"seed": 1}))
    document = json.loads((copy / "run.json").read_text())
    document["starts"][0]["threads"] = 2
    (copy / "run.json").write_text(json.dumps(document))
    done = gatepo("replay", str(copy))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "different from update 1 on: " in done.stdout
    assert "probable cause: seed 0 -> 1; threads 2 -> 1\n" in done.stdout


def test_what_cannot_be_replayed_is_said(copy: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for make, words in (
        (lambda: None, "seed must be out or trust, got seed=3"),
        (
            lambda: (copy / "config.yaml").write_text(yaml.safe_dump(config | {"gate": {"_target_": "harm.Gate"}})),
            "trust must be true",
        ),
        (lambda: (copy / "metrics.jsonl").write_text(""), "RUN must be a run with an update"),
        (lambda: (copy / "config.yaml").unlink(), "RUN must be the folder of a run"),
    ):
        make()
        done = gatepo("replay", str(copy), *(["seed=3"] if "seed" in words else []))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert words in done.stderr
    assert not copy.with_name("run-replay").exists()


def test_metrics_are_compared_to_the_last_bit() -> None:
    nan, zero = float("nan"), {"update": 1, "a": 0.0}
    assert differing({"a": nan, "time/train": 1.0, "step_time": 3}, {"a": nan, "time/train": 2.0}) == {}
    assert differing(zero, {"update": 1, "a": -0.0}) == {"a": (0.0, -0.0)}
    assert differing({"a": 1.0}, {"b": 1.0}) == {"a": (1.0, None), "b": (None, 1.0)}
    assert differing({"reward/timeout_frac": 0.5}, {"reward/timeout_frac": 0.25})  # it is no time
    found = first_difference([zero, {"update": 2, "a": 1}], [zero, {"update": 2, "a": 2}])
    assert found is not None and (found.update, found.values) == (2, {"a": (1, 2)})


def test_every_start_of_a_resumed_run_may_be_the_cause() -> None:
    one, other = {"threads": 1, "versions": {"torch": "2.12"}}, {"threads": 2, "versions": {"torch": "2.13"}}
    assert causes([one, other], other | {"command": "x"}) == ["threads 1 -> 2", "versions.torch 2.12 -> 2.13"]


def test_a_run_that_went_on_with_other_settings_says_which() -> None:
    """A replay has the last of them from the first update on, which may be why it differs."""
    starts = [
        {"words": ["updates=30", "seed=1"]},
        {"words": ["resume=outputs/a", "updates=12"]},
        {"words": ["resume=outputs/a", "updates=12", "trust=true"]},
    ]
    assert changes(starts) == "the run went on with updates=12 (before updates=30)"
    assert changes(starts[1:]) == changes(starts[:1]) == changes([{}, {}]) == ""
    assert _reasons(starts, [{}], changes(starts)) == f"probable cause: {changes(starts)}"
    assert "was config.yaml or metrics.jsonl edited?" in _reasons(starts[1:], [{}], "")
