"""What a run leaves outlives a power cut, a flipped bit, a full disk and another run in the same folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import REPO
from test_run import SMALL

from gatepo import checkpoint, durable
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
    """Whoever cuts its removal off finds no half of it among the checkpoints, and the next one clears it away."""
    import shutil

    save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda path, *_, **__: (path / "checkpoint.json").unlink())
        save(tmp_path, 2, keep=1)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["update-000002"]
    assert list((tmp_path / "checkpoints").glob("*.partial"))
    save(tmp_path, 3, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-000003"]


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
    for folder in (run / "model", final):
        assert_safe(seen, folder, [str(path.relative_to(folder)) for path in folder.rglob("*")])
    named = seen.index(("rename", str(final)))
    finished = seen.index(("rename", str(run / "summary.json")))
    for name in ("metrics.jsonl", "completions.jsonl"):
        begun = seen.index(("rename", str(run / name)))
        assert ("fsync", str(run / name)) in seen[begun:named]
    for name in ("reward.png", "entropy_eur.png"):
        assert ("fsync", str(run / name)) in seen[:finished]
