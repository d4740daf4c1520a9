"""A run goes on only on what it rests on: its settings, its rows and its lines; resume=auto starts it where it must."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command import gatepo
from test_run import SMALL, metrics, untimed

from gatepo import checkpoint, resume
from gatepo.errors import UserError
from gatepo.overrides import may_change
from gatepo.schema import TrainConfig

ROWS = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(1, 30)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that a user brings."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A run of four updates with checkpoints after two and four."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = gatepo("train", *words(rows), f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def words(rows: Path, *more: str) -> tuple[str, ...]:
    """What the run is started with."""
    own = ("evaluate.limit=2", "checkpoint.every=2", "checkpoint.keep=2", f"data.sources.words.path={rows}")
    return (*SMALL[:3], *own, *more)


@pytest.fixture
def cut_off(finished: Path, tmp_path: Path) -> Path:
    """The same after its third update, in a folder of its own."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "update-000004")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:3]))
    return folder


def refused(*arguments: str) -> str:
    """The one line that is said."""
    done = gatepo("train", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("gatepo: ")]
    assert len(said) == 1, done.stderr
    return said[0]


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "config.yaml"
    held = yaml.safe_load(path.read_text())
    change(held)
    path.write_text(yaml.safe_dump(held, sort_keys=False))


def test_an_edited_config_is_refused_with_what_differs(cut_off: Path) -> None:
    before = (cut_off / "metrics.jsonl").read_bytes()
    edit(cut_off, lambda held: held["batch"].update(prompts=8))
    line = refused(f"resume={cut_off}")
    assert f"batch.prompts must stay as it was when {cut_off} was trained, 4, got 8" in line
    assert "tracker" in line and "checkpoint.every" in line
    edit(cut_off, lambda held: held["batch"].update(prompts=4) or held["optimizer"].update(lr=0.5))
    assert "optimizer.lr must stay as it was" in refused(f"resume={cut_off}")
    assert (cut_off / "metrics.jsonl").read_bytes() == before


def test_what_the_run_does_not_rest_on_may_be_typed_beside_and_stays(cut_off: Path, finished: Path) -> None:
    assert may_change(TrainConfig) == [
        "trust",
        "force",
        "updates",
        "tracker",
        "evaluate.every",
        "checkpoint.every",
        "checkpoint.keep",
    ]
    for typed, named in (("tau.pos=3", "tau.pos"), ("gate=clip", "gate.name"), ("evaluate.limit=5", "evaluate.limit")):
        assert f"{named} must stay as it was when {cut_off} was trained" in refused(f"resume={cut_off}", typed)
    assert "experiment must stay" in refused(f"resume={cut_off}", "+experiment=smoke")
    more = ("checkpoint.every=1", "checkpoint.keep=null", "tracker=wandb", "tracker.mode=disabled", "batch.prompts=4")
    done = gatepo("train", f"resume={cut_off}", *more)
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(cut_off)) == untimed(metrics(finished))
    assert len(checkpoint.found(cut_off)) == 3
    held = yaml.safe_load((cut_off / "config.yaml").read_text())
    assert (held["tracker"]["name"], held["checkpoint"], held["resume"]) == ("wandb", {"every": 1, "keep": None}, None)


def test_more_updates_go_on_with_the_schedule_of_a_run_of_so_many(cut_off: Path, finished: Path, rows: Path) -> None:
    """A finished run too. The linear schedule falls to 0 at the last update that is now asked for."""
    longer = cut_off.parent / "longer"
    shutil.copytree(finished, longer)
    assert "updates must be >= 2" in refused(f"resume={cut_off}", "updates=1")
    assert "which is finished" in refused(f"resume={longer}")
    rates = []
    for folder, first in ((cut_off, 2), (longer, 4)):
        done = gatepo("train", f"resume={folder}", "updates=8")
        assert done.returncode == 0, done.stderr
        made = metrics(folder)
        assert [row["update"] for row in made] == list(range(1, 9))
        assert untimed(made[:first]) == untimed(metrics(finished)[:first])
        rates.append([row["learning_rate"] for row in made])
        assert json.loads((folder / "summary.json").read_text())["updates"] == 8
    peak = rates[0][0]
    assert rates[0] == pytest.approx([peak, peak * 3 / 4, *(peak * (8 - i) / 8 for i in range(2, 8))])
    assert rates[1] == pytest.approx(
        [*(peak * (4 - i) / 4 for i in range(4)), *(peak * (8 - i) / 8 for i in range(4, 8))]
    )


def test_rows_that_changed_are_refused(cut_off: Path, rows: Path) -> None:
    text = rows.read_text()
    rows.write_text(text.replace('"answer": "8"', '"answer": "9"'))
    try:
        line = refused(f"resume={cut_off}")
    finally:
        rows.write_text(text)
    assert f"data.sources.words must have the rows with which {cut_off} was trained, got others" in line


@pytest.mark.parametrize("name", ["metrics.jsonl", "completions.jsonl"])
def test_lines_that_are_missing_short_or_altered_are_refused(cut_off: Path, name: str) -> None:
    path = cut_off / name
    content = path.read_bytes()
    path.write_bytes(content[:100])
    assert f"{path} must have" in (line := refused(f"resume={cut_off}")) and "got 0 lines, 100 bytes" in line
    path.write_bytes(b" " + content[1:])
    assert "got other bytes: its SHA-256 differs" in refused(f"resume={cut_off}")
    path.unlink()
    assert "got no such file" in refused(f"resume={cut_off}")
    assert not path.exists()


def test_the_same_command_with_auto_starts_goes_on_and_ends(finished: Path, rows: Path, tmp_path: Path) -> None:
    """A run that was cut off before its first checkpoint starts anew, and one that has finished is left alone."""
    run = tmp_path / "run"
    command = words(rows, f"hydra.run.dir={run}", "resume=auto")
    run.mkdir()
    (run / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    first = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (run / "metrics.jsonl").write_text(first.replace('"reward"', '"else"'))
    assert "tau.pos must stay as it was" in refused(*command, "tau.pos=3")
    assert "hydra.run.dir=" in refused(*command[:-1])  # without auto nothing is written over
    done = gatepo("train", *command)
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(run)) == untimed(metrics(finished))
    shutil.rmtree(run / "checkpoints" / "update-000004")
    (run / "summary.json").unlink()
    done = gatepo("train", *command)
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(run)) == untimed(metrics(finished))
    assert "update 4 of 4" in done.stdout and "update 2 of 4" not in done.stdout
    before = (run / "summary.json").stat().st_mtime_ns
    done = gatepo("train", *command)
    assert (done.returncode, done.stdout) == (0, f"{run} is finished\n"), done.stderr
    assert (run / "summary.json").stat().st_mtime_ns == before
    assert "tau.pos must stay as it was" in refused(*command, "tau.pos=3")
    shutil.rmtree(run / "checkpoints")
    assert "hydra.run.dir=" in refused(*command, "updates=8")  # finished, and nothing to go on from


def test_auto_needs_a_folder_by_which_the_run_is_found_again() -> None:
    assert "resume=auto must stand beside hydra.run.dir=FOLDER" in refused("resume=auto")
    assert "resume=auto must stand beside hydra.sweep.dir=FOLDER" in refused("-m", "seed=0,1", "resume=auto")


def test_auto_goes_on_with_a_multirun(rows: Path, tmp_path: Path) -> None:
    """Its first job has finished, its second was cut off."""
    command = ("-m", *words(rows, "seed=0,1", "updates=2", "checkpoint.every=1", f"hydra.sweep.dir={tmp_path}"))
    done = gatepo("train", *command)
    assert done.returncode == 0, done.stderr
    expected = [untimed(metrics(tmp_path / str(job))) for job in range(2)]
    first = (tmp_path / "0" / "summary.json").stat().st_mtime_ns
    (tmp_path / "1" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "1" / "checkpoints" / "update-000002")
    done = gatepo("train", *command, "resume=auto")
    assert done.returncode == 0, done.stderr
    assert [untimed(metrics(tmp_path / str(job))) for job in range(2)] == expected
    assert (tmp_path / "0" / "summary.json").stat().st_mtime_ns == first
    assert f"{tmp_path / '0'} is finished" in done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but the lock, in which the last process that looked stands."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".claim")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("more", [["tau.pos=3"], ["tau.pos=3", "resume=auto"], ["devices=2", "batch.micro=8"]])
def test_what_is_refused_writes_nothing_into_the_folder_of_a_finished_run(
    finished: Path, rows: Path, more: list[str]
) -> None:
    before = tree(finished)
    refused(*words(rows, f"hydra.run.dir={finished}", *more))
    assert tree(finished) == before


def test_auto_with_other_settings_writes_nothing_into_a_run_that_was_cut_off(cut_off: Path, rows: Path) -> None:
    before = tree(cut_off)
    line = refused(*words(rows, f"hydra.run.dir={cut_off}", "resume=auto", "tau.pos=3"))
    assert "tau.pos must stay as it was" in line
    assert tree(cut_off) == before


@pytest.mark.parametrize(("more", "why"), [([], "without a run"), (["resume=auto", "tau.pos=3"], "tau.pos must stay")])
def test_a_grid_that_is_refused_leaves_the_folder_of_another_as_it_was(
    finished: Path, rows: Path, tmp_path: Path, more: list[str], why: str
) -> None:
    for job in range(2):
        shutil.copytree(finished, tmp_path / str(job))
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: [of another grid]}}\n")
    (tmp_path / "0" / "job.log").write_text("what it said\n")
    before = tree(tmp_path)
    done = gatepo("train", "-m", *words(rows, "checkpoint.keep=3,4", f"hydra.sweep.dir={tmp_path}", *more))
    assert done.returncode == 2
    assert tree(tmp_path) == before
    said = done.stderr.splitlines()
    assert [line.partition(", ")[0] for line in said[:2]] == [
        f"#{job} checkpoint.keep={job + 3} failed" for job in (0, 1)
    ]
    assert all(why in line for line in said[:2]), said
    assert said[-1].startswith("gatepo: 2 of 2 jobs failed, 2 as said above: ")
    assert "0 of 2 jobs have finished; compare what there is with: " in said[-1]  # the same words are refused again


def test_auto_works_on_two_devices(rows: Path, tmp_path: Path) -> None:
    command = words(rows, "devices=2", "batch.micro=8", f"hydra.run.dir={tmp_path}", "resume=auto")
    done = gatepo("train", *command)
    assert done.returncode == 0, done.stderr
    expected = untimed(metrics(tmp_path))
    (tmp_path / "summary.json").unlink()
    shutil.rmtree(tmp_path / "checkpoints" / "update-000004")
    assert "tau.pos must stay as it was" in refused(*command, "tau.pos=3")
    done = gatepo("train", *command)
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(tmp_path)) == expected


def test_a_summary_that_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json must be a run's summary, got no whole JSON"):
        resume.is_done(tmp_path, None)
