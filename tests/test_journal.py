"""What a run says: its folder first, train.log with all of it, lines instead of a bar where nobody looks at one."""

import re
from pathlib import Path

import pytest
from command import gatepo
from conftest import REPO

from gatepo import journal
from gatepo.run_folder import remove_if_nothing_ran
from gatepo.tracking.progress import EvaluationProgress, ProgressTracker

SHORT = ("+experiment=smoke", "updates=2", "batch.prompts=2", "evaluate.limit=1", "threads=1")
ROW = {"reward": 0.5, "entropy": 0.25, "eur/iteration_2": 0.9}


def lines(run: Path) -> list[str]:
    """Of train.log, without their times."""
    return [re.sub(r"^[\d-]{10} [\d:]{8} ", "", line) for line in (run / "train.log").read_text().splitlines()]


def said(updates: int, seconds: float) -> list[str]:
    """What a run of so many updates says, each of which takes so long."""
    found: list[str] = []
    now = [0.0]
    tracker = ProgressTracker(updates, 2, 0, found.append, bar=False, clock=lambda: now[0])
    for update in range(1, updates + 1):
        now[0] += seconds
        tracker.log(update, ROW)
    tracker.close()
    return found


def test_progress_is_a_line_now_and_then() -> None:
    assert said(2, 1.0) == [
        "update 1 of 2: reward 0.50, entropy 0.250, eur 0.900; 0:01 so far",  # the sampling of both
        "update 2 of 2: reward 0.50, entropy 0.250, eur 0.900; 0:02 so far, 0:00 to go",
    ]
    assert len(said(200, 0.6)) == 13  # two minutes: every 10 s, which are 17 updates
    assert len(said(5000, 9.0)) == 149  # twelve hours: every five minutes
    assert len(said(20, 3600.0)) == 20
    assert said(20, 3600.0)[0].endswith("; 1:00:00 so far")
    assert said(20, 3600.0)[1].endswith("; 2:00:00 so far, 18:00:00 to go")


def test_an_update_that_was_cut_off_is_counted_again() -> None:
    found: list[str] = []
    tracker = ProgressTracker(20, 2, 5, found.append, bar=False, clock=lambda: 0.0)
    tracker.log(5, ROW)
    tracker.close()
    assert found == ["update 5 of 20: reward 0.50, entropy 0.250, eur 0.900; 0:00 so far"]


def test_an_evaluation_says_when_it_begins_and_what_came_out(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []
    progress = EvaluationProgress(found.append, bar=True)
    progress.begin(3, 3)
    progress.done(2)
    progress.done(1)
    progress.end({"easy": 0.5, "hard": 0.25})
    assert found == ["evaluation of 3 problems", "accuracy easy 50.0%, hard 25.0%"]
    assert "evaluation: 100%" in capsys.readouterr().err


def test_a_run_without_a_test_set_says_so() -> None:
    found: list[str] = []
    progress = EvaluationProgress(found.append, bar=False)
    progress.begin(0, 0)
    progress.end({})
    assert found == ["no evaluation: data.evaluation is empty"]


def test_a_run_says_its_folder_first_and_train_log_has_all_of_it(tmp_path: Path) -> None:
    done = gatepo(
        "train", *SHORT, "batch.iterations=1", f"hydra.run.dir={tmp_path / 'run'}", "sampling.temperature=0.9"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "neither a bar nor a line of DeepSpeed's"
    out, log = done.stdout.splitlines(), lines(tmp_path / "run")
    assert out[0] == log[0] == f"folder   {tmp_path / 'run'}"
    assert log[1].startswith("command  python -m gatepo.train +experiment=smoke updates=2 batch.prompts=2")
    assert re.match(r"versions gatepo \S+.*, python 3\.\d+\.\d+, torch \S+, transformers \S+", log[2])
    assert log[3].startswith("batch.iterations=1 with one update per rollout batch")
    assert "\r" not in done.stdout
    assert [line for line in log if line not in out] == log[1:3]
    for begin in ("evaluation of 3 problems", "accuracy easy", "update 1 of 2: ", "update 2 of 2: ", "model    "):
        assert any(line.startswith(begin) for line in log), begin
    assert "2 updates in" in "\n".join(log)


def test_two_ranks_say_each_line_once_and_a_death_is_in_the_log(tmp_path: Path) -> None:
    reward = ["reward._target_=own_reward.score", "devices=2", "batch.micro=8"]
    (tmp_path / "own_reward.py").write_text("def score(prompt, completion):\n    raise OSError('no disk of mine')\n")
    done = gatepo(
        "train", *SHORT, *reward, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path, PYTHONPATH=f"{REPO}:{tmp_path}"
    )
    assert done.returncode == 2, done.stderr
    out, log = done.stdout.splitlines(), lines(tmp_path / "run")
    assert out[0] == log[0] == "folder   run"
    assert len(set(out)) == len(out)
    assert len(set(log)) == len(log)
    assert log[-1] == done.stderr.splitlines()[-1] == "OSError: no disk of mine"
    assert sum("reward must give a number" in line for line in log) == 1


def test_a_crash_leaves_its_traceback(tmp_path: Path) -> None:
    start = {"command": "mine", "code": {"version": "1", "commit": None}, "versions": {"python": "3"}}
    with pytest.raises(ZeroDivisionError), journal.kept(tmp_path, start):
        print(1 / 0)
    log = lines(tmp_path)
    assert log[:3] == [f"folder   {tmp_path}", "command  mine", "versions gatepo 1, python 3"]
    assert log[3] == "Traceback (most recent call last):"
    assert log[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "words", [["tau.pos=-1"], ["batch.prompts=3", "devices=2"], ["sampling.max_prompt_length=2000"], ["data.path=gone"]]
)
def test_refused_settings_leave_no_folder_behind(tmp_path: Path, words: list[str]) -> None:
    done = gatepo("train", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_somebody_has_made_or_that_holds_updates_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert gatepo("train", "tau.pos=-1", f"hydra.run.dir={tmp_path / 'mine'}").returncode == 2
    assert (tmp_path / "mine").is_dir()
    for name, text in (("metrics.jsonl", "{}\n"), ("notes.txt", "")):
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
        (run / name).write_text(text)
        remove_if_nothing_ran(run)
        assert len(list(run.iterdir())) == 2
