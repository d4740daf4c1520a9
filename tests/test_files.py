"""What a run leaves outlives a power cut, a flipped bit, a full disk and another run in the same folder."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from command import gatepo
from conftest import REPO, one_line
from disks import small_disk
from test_processes import wait_for
from test_run import SMALL

from gatepo import checkpoint, claim, durable, manifest
from gatepo.errors import UserError
from gatepo.evaluate import folder
from gatepo.json_lines import open_to_append
from gatepo.state import RunState
from gatepo.world import World

Seen = list[tuple[str, str]]  # what was done, to which path


class Weights:
    """An engine that has weights to save and load, and no more."""

    def __init__(self, size: int = 1000) -> None:
        self.held = torch.arange(float(size))

    def save(self, path: Path) -> None:
        path.mkdir()
        torch.save(self.held, path / "weights.pt")

    def load(self, path: Path) -> None:
        self.held = torch.load(path / "weights.pt", weights_only=True)


def save(run: Path, update: int, keep: int | None = None, engine: Weights | None = None) -> Path:
    return checkpoint.save(run, engine or Weights(), RunState(seed=0, update=update), World(), keep)


RECORDED = """
import json, os, runpy, sys
def record(name, path_of):
    done = getattr(os, name)
    def recorded(*given, **more):
        with open(os.environ["SEEN"], "a") as file:
            file.write(json.dumps((name, path_of(*given))) + chr(10))
        return done(*given, **more)
    setattr(os, name, recorded)
record("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
record("rename", lambda one, other: os.path.abspath(other))
sys.argv = ["gatepo.train", *sys.argv[1:]]
runpy.run_module("gatepo.train", run_name="__main__")
"""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Every fsync, rename and removal from here on, in order."""
    found: Seen = []

    def record(name: str, path_of: Callable[..., str]) -> None:
        done = getattr(os, name)

        def recorded(*given, **more):
            found.append((name, path_of(*given)))
            return done(*given, **more)

        monkeypatch.setattr(os, name, recorded)

    record("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    record("rename", lambda one, other: str(other))
    record("replace", lambda one, other: str(other))
    record("unlink", lambda path, **more: str(path))
    return found


def assert_safe(seen: Seen, final: Path, parts: list[str]) -> None:
    """The parts of ``final`` are on the disk before it has its name, which is there before anything goes."""
    named = next(at for at, (what, path) in enumerate(seen) if what in ("rename", "replace") and path == str(final))
    partial = str(durable.partial_of(final))
    before = [path for what, path in seen[:named] if what == "fsync"]
    assert {partial, *(f"{partial}/{part}" for part in parts)} <= set(before)
    after = [what for what, path in seen[named + 1 :] if path == str(final.parent) or what == "unlink"]
    assert after[0] == "fsync", seen[named:]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_before_its_predecessor_goes(
    tmp_path: Path, seen: Seen
) -> None:
    save(tmp_path, 1, keep=1)
    del seen[:]
    final = save(tmp_path, 2, keep=1)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["update-000002"]
    assert_safe(seen, final, ["checkpoint.json", "state-0.pt", "engine", "engine/weights.pt"])
    assert any(what == "unlink" for what, _ in seen)


def test_the_names_of_new_folders_are_on_the_disk_too(tmp_path: Path, seen: Seen) -> None:
    save(tmp_path / "outputs" / "run", 1)
    flushed = {path for what, path in seen if what == "fsync"}
    assert {str(tmp_path), str(tmp_path / "outputs"), str(tmp_path / "outputs" / "run")} <= flushed


def test_a_predecessor_leaves_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cuts its removal off finds no half of it among the checkpoints, and what comes next clears it away."""
    save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda path, *_, **__: (path / "checkpoint.json").unlink())
        save(tmp_path, 2, keep=1)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["update-000002"]
    assert list((tmp_path / "checkpoints").glob("*.partial"))
    left = save(tmp_path, 3, keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == [left]


def test_a_run_that_goes_on_removes_what_it_was_cut_off_from_removing(tmp_path: Path) -> None:
    """It may have all its updates behind it, so that no further checkpoint would do it. As CI's harness found."""
    run = tmp_path / "run"
    words = (*SMALL, "updates=3", "evaluate.limit=2", "checkpoint.every=1", f"hydra.run.dir={run}")
    gatepo("train", *words, "checkpoint.keep=null")
    (run / "summary.json").unlink()
    (run / "checkpoints" / "update-000001").rename(run / "checkpoints" / "update-000001.partial")
    gatepo("train", *words, "checkpoint.keep=1", "resume=auto")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["update-000003"]


def test_files_and_folders_get_their_names_last(tmp_path: Path, seen: Seen) -> None:
    durable.write_text(tmp_path / "summary.json", "{}")
    assert_safe(seen, tmp_path / "summary.json", [])
    open_to_append(tmp_path / "metrics.jsonl").close()
    assert_safe(seen, tmp_path / "metrics.jsonl", [])
    for text in ("one", "other"):
        del seen[:]
        (tmp_path / "model.partial").mkdir()
        (tmp_path / "model.partial" / "weights").write_text(text)
        durable.publish(tmp_path / "model.partial", tmp_path / "model")
        assert_safe(seen, tmp_path / "model", ["weights"])
        assert (tmp_path / "model" / "weights").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "model", "summary.json"]


def test_every_final_name_of_a_run_is_given_so(tmp_path: Path) -> None:
    """And the rows of a checkpoint's updates are on the disk before it: whoever goes on does not write them again."""
    run, log = tmp_path / "run", tmp_path / "seen"
    small = (*SMALL, "updates=2", "checkpoint.every=2", f"hydra.run.dir={run}")
    environment = os.environ | {"SEEN": str(log), "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", RECORDED, *small]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = [(what, path) for what, path in map(json.loads, log.read_text().splitlines())]
    (final,) = checkpoint.found(run)
    for path in (run / "config.yaml", run / "metrics.jsonl", run / "completions.jsonl", run / "summary.json"):
        assert_safe(seen, path, [])
    for whole in (run / "model", final):
        assert_safe(seen, whole, [str(path.relative_to(whole)) for path in whole.rglob("*")])
    named = seen.index(("rename", str(final)))
    finished = seen.index(("rename", str(run / "summary.json")))
    for name in ("metrics.jsonl", "completions.jsonl"):
        begun = seen.index(("rename", str(run / name)))
        assert ("fsync", str(run / name)) in seen[begun:named]
    for name in ("reward.png", "entropy_eur.png"):
        assert ("fsync", str(run / name)) in seen[:finished]


def flip(path: Path, at: int = -1) -> None:
    """Turn one bit, in the middle unless said otherwise."""
    content = bytearray(path.read_bytes())
    content[at if at >= 0 else len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["engine/weights.pt", "state-0.pt", "checkpoint.json"])
def test_one_flipped_bit_costs_one_checkpoint(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on from the one before, and says so; the damaged one does not count among those that stay."""
    one, other = save(tmp_path, 1), save(tmp_path, 2)
    flip(other / name)
    with pytest.raises(UserError) as refused:
        checkpoint.check(other)
    assert f"{other / name} must be" in one_line(refused)
    assert checkpoint.newest_whole(tmp_path, World()) == one
    assert f"{other / name} must be" in caplog.text and f"goes on from {one}" in caplog.text
    assert other.with_suffix(".damaged").is_dir()
    assert checkpoint.found(tmp_path) == [one]
    save(tmp_path, 2, keep=1)
    assert checkpoint.newest_whole(tmp_path, World()) == other


def test_no_bit_of_a_manifest_can_turn_unnoticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1) / "checkpoint.json"
    content = path.read_bytes()
    whole = manifest.read(path.parent)
    for at in range(len(content)):
        flip(path, at)
        with contextlib.suppress(manifest.Damaged):
            assert manifest.read(path.parent) == whole, at  # what turned was the space between two words
        path.write_bytes(content)


FOREIGN = {
    "cut": '{"update": 1, "ranks": 1, "fil',
    "empty": "",
    "another list": "[1, 2]",
    "no list of files": '{"update": 1, "ranks": 1}',
    "no files": '{"update": 1, "ranks": 1, "files": {}}',
    "names outside": '{"update": 1, "ranks": 1, "files": {"../../config.yaml": 3, "state-0.pt": 1}}',
    "no state": '{"update": 1, "ranks": 2, "files": {"state-0.pt": 1}}',
    "endless ranks": '{"update": 1, "ranks": 1000000000000, "files": {"state-0.pt": 1}}',
    "too deep": "[" * 100_000,
    "a long number": '{"update": ' + "9" * 100_000 + "}",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_manifest_that_is_none_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, 1)
    (path / "checkpoint.json").write_text(text)
    for read in (lambda: checkpoint.check(path), lambda: checkpoint.newest_whole(tmp_path, World())):
        with pytest.raises(UserError) as refused:
            read()
        assert f"{path / 'checkpoint.json'} must be a checkpoint's manifest" in one_line(refused)
    assert path.is_dir()  # where nothing else is left, nothing is moved


def test_a_manifest_that_is_missing_or_not_text_is_said_in_one_line(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "checkpoint.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="got a file that is no whole JSON; no checkpoint before it is whole"):
        checkpoint.newest_whole(tmp_path, World())
    (path / "checkpoint.json").unlink()
    with pytest.raises(UserError, match=r"got none to read \(No such file or directory\); no checkpoint"):
        checkpoint.newest_whole(tmp_path, World())


def test_a_manifest_of_an_earlier_version_is_read_and_said_to_know_sizes_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, 1)
    content = json.loads((path / "checkpoint.json").read_text())
    earlier = {name: content[name] for name in ("update", "ranks", "files")}
    (path / "checkpoint.json").write_text(json.dumps(earlier))
    assert checkpoint.newest_whole(tmp_path, World()) == path
    assert "a version without SHA-256" in caplog.text


@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota")])
def test_on_a_full_disk_the_last_checkpoint_stays_and_the_bytes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: OSError
) -> None:
    def full(*given: object) -> None:
        raise raised

    engine = Weights()
    for name in ("save", "flush_tree", "publish"):
        run = tmp_path / name
        with monkeypatch.context() as patched, pytest.raises(UserError) as said:
            patched.setattr(torch if name == "save" else durable, name, full)
            checkpoint.save(run, engine, RunState(seed=0, update=1), World(), 1, parameters=1000)
        assert f"{run / 'checkpoints' / 'update-000001'} needs 12,000 bytes, and its disk is full" in one_line(said)
        one = save(run, 1, keep=1)
        size = sum(manifest.read(one).files.values())
        with monkeypatch.context() as patched, pytest.raises(UserError) as said:
            patched.setattr(torch if name == "save" else durable, name, full)
            save(run, 2, keep=1)
        needed = int(one_line(said).split(" needs ")[1].split(" bytes")[0].replace(",", ""))
        assert size < needed < size + 2000  # the one before, with its manifest
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["update-000001"]
        checkpoint.check(one)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which the embedded model's checkpoint of 10.5 MB fits once."""
    with small_disk(tmp_path / "disk", 16) as folder:
        yield folder


def test_a_run_on_a_disk_that_fills_up_ends_in_one_line_and_goes_on_where_there_is_room(disk: Path) -> None:
    run = disk / "run"
    small = (*SMALL, "updates=2", "checkpoint.every=1", "checkpoint.keep=1")
    done = gatepo("train", *small, f"hydra.run.dir={run}")
    assert done.returncode == 2, done.stderr
    line, hint = done.stderr.splitlines()[-1], done.stderr.splitlines()[-2]
    assert "Traceback" not in done.stderr
    assert f"gatepo: {run / 'checkpoints' / 'update-000002'} needs " in line and " bytes, and its disk is full" in line
    assert f"resume={run}" in hint
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["update-000001"]
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    done = gatepo("train", f"resume={run}")
    assert done.returncode == 0, done.stderr
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_what_another_process_writes_into_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    with claim.held(tmp_path, "hydra.run.dir"):
        for module, *arguments in (
            ("train", f"resume={tmp_path}"),
            ("train", *SMALL, f"hydra.run.dir={tmp_path}"),
            ("evaluate", "limit=1", f"out={tmp_path}"),
        ):
            done = gatepo(module, *arguments)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
            assert f"got {tmp_path}, which process {os.getpid()} on" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".claim", "config.yaml"]


def start(module: str, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"gatepo.{module}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def test_two_runs_started_together_have_a_folder_each(tmp_path: Path) -> None:
    small = (*SMALL, "updates=1", "evaluate.limit=1")
    started = [start("train", tmp_path, *small, f"seed={seed}") for seed in (0, 1)]
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    folders = [path.parent for path in tmp_path.glob("outputs/*/*/summary.json")]
    assert sorted(yaml.safe_load((path / "config.yaml").read_text())["seed"] for path in folders) == [0, 1]
    assert all(path.name[8] == "-" and len(path.name) == 15 for path in folders)


def test_a_second_evaluation_in_a_folder_is_refused_while_there_is_a_first(tmp_path: Path) -> None:
    """Which may end, or be killed; then the same command goes on with its problems."""
    asked = ("limit=2", "samples=1", "sampling.max_prompt_length=128", f"out={tmp_path / 'here'}")
    first = start("evaluate", tmp_path, *asked[1:])
    claimed = tmp_path / "here" / ".claim"
    assert wait_for(lambda: claimed.exists() and claimed.stat().st_size > 0, 120)
    first.send_signal(signal.SIGSTOP)  # or it may end before the second looks
    second = gatepo("evaluate", *asked)
    first.kill()
    first.communicate()
    assert (second.returncode, second.stderr.count("\n")) == (2, 1), second.stderr
    assert f"out must be a folder that no other process writes into, got {tmp_path / 'here'}" in second.stderr
    third = gatepo("evaluate", *asked)
    assert third.returncode == 0, third.stderr
    lines = [json.loads(line) for line in (tmp_path / "here" / "generations.jsonl").read_text().splitlines()]
    assert len({(line["set"], line["index"]) for line in lines}) == len(lines) >= 3 * 2


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_an_identity_that_is_none_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "identity.json").write_text(text)
    with pytest.raises(UserError, match=r"identity\.json must say what is evaluated there, got no whole JSON"):
        folder.claim(tmp_path, {"model": "tiny"})
