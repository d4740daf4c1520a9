"""Multiruns of several jobs at once: the same runs as one by one, in one view, stopped and going on together."""

import io
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from command import gatepo
from hydra.core.utils import JobReturn
from test_processes import wait_for
from test_run import metrics, untimed
from test_signals import ended, start, trained

from gatepo.errors import UserError
from gatepo.launch import multirun
from gatepo.launch.view import FAILED, FINISHED, PERIOD, RUNNING, Seen, View, status, time_left

SMALL = ("updates=8", "batch.prompts=2", "batch.micro=16", "evaluate.limit=2", "checkpoint.every=4")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, float]]]:
    """The metrics of seeds 0 and 1, each a run of its own on one thread."""
    found = []
    for seed in range(2):
        folder = tmp_path_factory.mktemp("alone") / "run"
        done = gatepo("train", *SMALL, f"seed={seed}", "threads=1", f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
        found.append(untimed(metrics(folder)))
    return found


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands, of which none outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        processes.append(start(*command))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def open_in(folder: Path) -> set[int]:
    """Process ids that have a file of a folder open: forked jobs have no command line of their own."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if any(str(folder) in os.readlink(link) for link in (entry / "fd").iterdir()):
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def test_two_at_once_give_what_each_gives_alone(alone: list[list[dict[str, float]]], tmp_path: Path) -> None:
    done = gatepo("train", "-m", *SMALL, "seed=0,1", "jobs=2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert [untimed(metrics(tmp_path / str(job))) for job in range(2)] == alone
    (first,), (second,) = (json.loads((tmp_path / f"{job}/run.json").read_text())["starts"] for job in range(2))
    assert max(first["start"], second["start"]) < min(first["end"], second["end"])  # ISO 8601 sorts as it is
    assert first["threads"] == 1
    for job in range(2):
        held = yaml.safe_load((tmp_path / f"{job}/config.yaml").read_text())
        basis = json.loads((tmp_path / f"{job}/checkpoints/update-000008/basis.json").read_text())
        assert held["threads"] == basis["settings"]["threads"] == 1
        assert "jobs" not in held and "jobs" not in basis["settings"]
        assert "8 updates in" in (tmp_path / f"{job}/job.log").read_text()
        assert not list((tmp_path / str(job)).glob("job-*"))
    said = [line for line in done.stderr.splitlines() if line.startswith("#")]
    assert sorted(line.partition(" reward ")[0] for line in said) == ["#0 seed=0: 8/8", "#1 seed=1: 8/8"]
    assert "update/s" not in done.stderr  # no bars of several processes
    assert done.stdout.splitlines()[-1].endswith(f"python -m gatepo.report {tmp_path}")


def test_jobs_that_fail_stop_no_other_and_are_named_at_the_end(tmp_path: Path) -> None:
    """Two before they are started, one in its own process; none is forked, as the environment is another one."""
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "run.json").touch()
    words = ("tau.pos=-1,10", "seed=0,1", "updates=2", *SMALL[1:], "jobs=2", f"hydra.sweep.dir={tmp_path}")
    done = gatepo("train", "-m", *words, "+hydra.job.env_set.MINE=1")
    assert done.returncode == 2
    assert [(tmp_path / f"{job}/summary.json").exists() for job in range(4)] == [False, False, False, True]
    said = done.stderr.splitlines()
    assert any(line.startswith("#1 tau.pos=-1 seed=1 failed, tau.pos must be") for line in said), said
    assert any("failed, exit code 2: " in line and "run.json must be the starts of a run" in line for line in said), (
        said
    )
    named = ", ".join(str(tmp_path / str(job)) for job in range(3))
    why = "2 as said above and 1 as its job.log says"
    assert said[-1].startswith(f"gatepo: 3 of 4 jobs failed, {why}: {named}; 1 of 4 jobs have finished; go on with: ")
    assert said[-1].endswith(f"with: python -m gatepo.report {tmp_path}")


def test_a_signal_stops_all_and_the_same_command_goes_on_to_the_bit(
    started: Callable,
    alone: list[list[dict[str, float]]],
    tmp_path: Path,
) -> None:
    process = started("-m", "gatepo.train", "-m", *SMALL, "seed=0,1", "jobs=2", f"hydra.sweep.dir={tmp_path}")
    assert all(trained(tmp_path / str(job), 2) for job in range(2))
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    go_on = f"python -m gatepo.train -m {' '.join(SMALL)} seed=0,1 jobs=2 hydra.sweep.dir={tmp_path} resume=auto"
    assert said[-1] == f"gatepo: stopped by SIGTERM; 0 of 2 jobs have finished; go on with: {go_on}"
    assert code == 143
    assert not open_in(tmp_path)
    assert not list(tmp_path.glob("*/job-*"))
    words = shlex.split(go_on)[3:]
    done = gatepo("train", *words)
    assert done.returncode == 0, done.stderr
    assert [untimed(metrics(tmp_path / str(job))) for job in range(2)] == alone
    before = [(tmp_path / f"{job}/summary.json").stat().st_mtime_ns for job in range(2)]
    done = gatepo("train", *words)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith(" is finished")] == [
        f"{tmp_path / str(job)} is finished" for job in range(2)
    ]
    assert [(tmp_path / f"{job}/summary.json").stat().st_mtime_ns for job in range(2)] == before


def test_jobs_of_a_multirun_that_is_killed_end(started: Callable, tmp_path: Path) -> None:
    process = started("-m", "gatepo.train", "-m", "updates=400", *SMALL[1:], f"hydra.sweep.dir={tmp_path}")
    assert trained(tmp_path / "0")
    assert open_in(tmp_path)
    process.kill()
    assert wait_for(lambda: not open_in(tmp_path), 20)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("jobs=2",), "jobs must stand beside -m, got jobs=2 for a single run; add -m"),
        (("-m", "jobs=two"), "jobs must be a whole number, got two; type e.g. jobs=2"),
        (("-m", "jobs=0"), "jobs must be >= 1, got 0; 1 is the default"),
        (("-m", "jobs=2", "hydra/launcher=basic"), "must stand without another launcher, got hydra/launcher=basic"),
        (("objective=eur.last",), "objective must stand beside -m, got objective=eur.last for a single run; add -m"),
        (("-m", "jobs=64", "devices=2"), "where a job has devices=2 and this machine"),
    ],
)
def test_numbers_of_jobs_that_cannot_work_are_refused(words: tuple[str, ...], line: str, tmp_path: Path) -> None:
    done = gatepo("train", *words, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2
    assert line in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("*/metrics.jsonl"))


def test_a_sweeper_that_searches_is_given_the_number_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(
        json.dumps({"updates": 8, "evaluation": {"hard": {"after": 0.5}}, "on": "x"})
    )
    assert multirun.value_of(tmp_path, "evaluation.hard.after") == 0.5
    assert multirun.value_of(tmp_path, "updates") == 8.0
    assert multirun.value_of(tmp_path, None) is None
    with pytest.raises(
        UserError, match=r"objective must be one of updates, evaluation.hard.after, .* got evaluation.hard"
    ):
        multirun.value_of(tmp_path, "evaluation.hard")
    jobs = [seen(0, FINISHED), seen(1, FINISHED)]
    batch: Any = SimpleNamespace(seen=jobs, refused=set(), folder=tmp_path, how_to_go_on=lambda: "")
    for one in jobs:
        one.folder = tmp_path
    returns = [JobReturn(), JobReturn()]
    multirun._end(returns, batch, "evaluation.hard.after")
    assert [found.return_value for found in returns] == [0.5, 0.5]


def test_jobs_beside_each_other_have_gpus_of_their_own() -> None:
    assert multirun.visible(slot=1, devices=2, gpus=4, given=None) == "2,3"
    assert multirun.visible(slot=1, devices=2, gpus=4, given="4,5,6,7") == "6,7"


def seen(number: int, state: str, update: int = 0, **figures: float) -> Seen:
    words = f"seed={number}"
    found = Seen(number=number, words=words, folder=Path("runs"), updates=100, iterations=2, state=state, update=update)
    found.figures = figures
    return found


def test_the_view_says_how_far_all_are_and_each_that_runs() -> None:
    jobs = [
        seen(0, FINISHED, 100, reward=1.8, entropy=0.4, eur=0.99),
        seen(1, FAILED, 7),
        seen(2, RUNNING, 40, reward=1.25, entropy=0.5, eur=0.9518),
        seen(3, RUNNING),
        seen(4, "waiting"),
    ]
    # 60 + 100 + 100 updates at 147 made in 294 s
    assert (left := time_left(jobs, made=147, seconds=294)) == pytest.approx(520)
    assert status(jobs, left) == [
        "1 of 5 jobs finished, 2 running, 1 waiting, 1 failed; 9 min left",
        "#2 seed=2: 40/100 reward 1.250 entropy 0.500 eur 0.952",
        "#3 seed=3: 0/100",
    ]
    assert time_left(jobs, made=0, seconds=10) is None
    assert status(jobs[:1], None) == ["1 of 1 jobs finished"]
    assert status(jobs, 59)[0].endswith("; 59 s left") and status(jobs, 7500)[0].endswith("; 2 h 5 min left")


def test_a_job_is_seen_by_its_last_whole_lines(tmp_path: Path) -> None:
    rows = [{"update": u, "reward": u / 4, "entropy": 0.5, f"eur/iteration_{2 - u % 2}": 1 - u / 8} for u in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"update": 4, "rew')
    job = Seen(number=0, words="", folder=tmp_path, updates=4, iterations=2)
    job.look()
    assert (job.update, job.figures) == (3, {"reward": 0.75, "entropy": 0.5, "eur": 0.75})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "12")
    yield


def test_a_terminal_has_one_view_below_what_was_said(columns: None) -> None:
    stream = Terminal()
    view = View(stream)
    view.show(["two", "a line that is too long"])
    view.show(["two", "a line that is too long"])  # nothing new
    view.say("done")
    view.show(["one"])
    view.close()
    shown = "two\na line tha…\n"
    up = "\x1b[2A\r\x1b[J"
    assert stream.getvalue() == f"\r\x1b[J{shown}{up}done\n{shown}{up}one\n\x1b[1A\r\x1b[J"


def test_a_file_gets_a_line_now_and_then() -> None:
    now = [0.0]
    stream = io.StringIO()
    view = View(stream, clock=lambda: now[0])
    view.show(["early"])
    now[0] = PERIOD
    view.show(["head", "#1"])
    view.show(["again"])
    view.say("done")
    view.close()
    assert stream.getvalue() == "head; #1\ndone\n"
