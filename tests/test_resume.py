"""A run that was cut off goes on exactly, from its folder alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import gatepo
from conftest import REPO
from test_processes import SMALL as SMALL_ON_TWO
from test_processes import wait_for, workers
from test_run import SMALL, metrics, untimed

from gatepo import checkpoint, claim
from gatepo.errors import UserError
from gatepo.objective.aggregation import Totals
from gatepo.state import RolloutBatch, RunState
from gatepo.tracking.files import UpdateLog
from gatepo.types import TokenBatch

RUN = (*SMALL, "updates=9", "checkpoint.every=3", "checkpoint.keep=2")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    done = gatepo("train", *RUN, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed some time after its first checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    command = [sys.executable, "-m", "gatepo.train", *RUN, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = folder / "metrics.jsonl"
    assert wait_for(lambda: lines.exists() and lines.read_text().count("\n") >= 4 and checkpoint.found(folder), 120)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=rf"process {process.pid} on .* holds"):
        patch.setattr(claim, "PATIENCE", 0.1)  # it may finish
        claim.refuse_if_held(folder, "resume")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "summary.json").exists()
    with lines.open("a") as file:
        file.write('{"update": 5, "lo')  # as a full disk would leave it
    return folder


def test_a_killed_run_goes_on_to_the_bit(straight: Path, killed: Path) -> None:
    """From update 3, in the middle of a rollout batch: the same metrics, samples, model and accuracies."""
    done = gatepo("train", f"resume={killed}")
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(killed)) == untimed(metrics(straight))
    for name in ("completions.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()
    one, other = (json.loads((folder / "summary.json").read_text()) for folder in (killed, straight))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    again = gatepo("train", f"resume={killed}")
    assert again.returncode == 2
    assert "which is finished" in again.stderr
    assert "go on with" not in again.stderr


def test_the_newest_checkpoints_stay(straight: Path) -> None:
    assert [path.name for path in checkpoint.found(straight)] == ["update-000006", "update-000009"]
    rollout_batch = checkpoint.read_state(checkpoint.found(straight)[-1], rank=0).rollout_batch
    assert rollout_batch is not None
    assert rollout_batch.iteration == 1


def test_rows_are_cut_at_line_ends_alone(tmp_path: Path) -> None:
    """A completion may hold what Unicode calls a line separator."""
    path = tmp_path / "completions.jsonl"
    text = "a\u2028b\u0085c"
    first = UpdateLog(path, 0)
    for update in (1, 2, 3):
        first.write({"update": update, "completion": text})
    first.close()
    UpdateLog(path, 2).close()
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert rows == [{"update": update, "completion": text} for update in (1, 2)]


def test_what_cannot_be_gone_on_with_is_said(straight: Path, tmp_path: Path) -> None:
    done = gatepo("train", "resume=nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "resume must be the folder of a run, got nowhere" in done.stderr
    assert not (REPO / "nowhere").exists()
    (tmp_path / "config.yaml").write_bytes((straight / "config.yaml").read_bytes())
    done = gatepo("train", f"resume={tmp_path}")
    assert (done.returncode, "resume must be a run with a checkpoint" in done.stderr) == (2, True), done.stderr


def test_two_ranks_go_on_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    """Where one bit of the newest has turned: both notice it, though each reads its own share of the files."""
    run = tmp_path / "run"
    small = (*SMALL_ON_TWO, "updates=3", "devices=2", "checkpoint.every=1", "checkpoint.keep=2")
    done = gatepo("train", *small, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    rows = metrics(run)
    (run / "summary.json").unlink()
    engine = checkpoint.found(run)[-1] / "engine"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    done = gatepo("train", f"resume={run}")
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).splitlines()
    (line,) = [line for line in said if "update-000003/engine must be the bytes that were written" in line]
    assert f"goes on from {run / 'checkpoints' / 'update-000002'}" in line
    assert untimed(metrics(run)) == untimed(rows)
    assert [path.name for path in checkpoint.found(run)] == ["update-000002", "update-000003"]


def test_a_checkpoint_that_is_not_whole_is_refused(straight: Path, tmp_path: Path) -> None:
    import shutil

    path = tmp_path / "update-000006"
    shutil.copytree(checkpoint.found(straight)[0], path)
    checkpoint.check(path, ranks=1)
    with pytest.raises(UserError, match=r"devices must be 1, as when .* got 2"):
        checkpoint.check(path, ranks=2)
    os.truncate(path / "engine", 1000)
    with pytest.raises(UserError, match=r"engine must be the \d+ bytes that were written; remove"):
        checkpoint.check(path, ranks=1)


def test_the_papers_stack_trains_leaves_nothing_behind_and_goes_on(tmp_path: Path) -> None:
    """vLLM on every rank, ZeRO-3, two ranks, attested syncs; then the same from the middle of a rollout batch."""
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
    folder = tmp_path / "run"
    sharded = ("engine=deepspeed", "engine.zero_stage=3", "engine.persistence_threshold=0")  # no weight is too small
    stack = ("rollout=vllm", *sharded, "devices=2", "correction=truncate")
    checkpoints = ("checkpoint.every=3", "checkpoint.keep=null")
    done = gatepo("train", *SMALL_ON_TWO, "updates=4", *checkpoints, *stack, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    rows = metrics(folder)
    assert len(rows) == 4
    assert all(row["sampling/sampling_logp_difference/max"] < 1e-3 for row in rows)
    assert all(row["time/sync"] > 0 for row in rows[::2])
    assert rows[1]["eur"] < 1
    assert not workers(folder)

    (folder / "summary.json").unlink()  # cut off after its model was written
    done = gatepo("train", f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert untimed(metrics(folder)) == untimed(rows)
    assert (folder / "summary.json").exists()


def test_a_state_of_an_earlier_version_gets_what_is_new(tmp_path: Path) -> None:
    """It was written before the books of EUR were kept."""
    one = torch.ones(1, 2)
    tokens = TokenBatch(
        ids_NT=one.long(),
        completion_NT=one > 0,
        attention_NT=one > 0,
        advantage_N=torch.ones(1),
        group_N=torch.zeros(1),
        sampler_logp_NT=one,
    )
    batch = RolloutBatch(tokens=tokens, totals=Totals(completions=1, tokens=1), metrics={}, samples=[], iteration=1)
    state = RunState(seed=3, update=7, rollout_batch=batch)
    del state.rounding, batch.taken_before
    torch.save(state, tmp_path / "state-0.pt")
    read = checkpoint.read_state(tmp_path, 0)
    assert (read.update, read.rounding) == (7, None)
    assert read.rollout_batch is not None
    assert (read.rollout_batch.iteration, read.rollout_batch.taken_before) == (1, 0.0)
