"""SIGTERM and SIGINT: a run leaves a checkpoint and one line, with all its processes, and goes on to the bit."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from command import gatepo
from conftest import REPO
from test_processes import SMALL, wait_for, workers
from test_run import metrics, untimed

from gatepo import checkpoint, signals
from gatepo.errors import Interrupted
from gatepo.world import World

LONG = ("updates=400", *SMALL[1:])
ENDLESS = "reward._target_=slow.score"  # a reward that is still at work when the test has ended
SLOW = """
import os, pathlib, time
asked = 0
def score(prompt, completion):
    global asked
    asked += 1
    if asked > int(os.environ.get("PATIENT", "0")):
        (pathlib.Path(__file__).parent / "asked").touch()
        time.sleep(600)
    return 0.0
"""
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    """A command in a session of its own, as a terminal would have it in the foreground."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts commands, of which none outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*command: str, **environment: str) -> subprocess.Popen[str]:
        processes.append(start(*command, **environment))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def trained(folder: Path, updates: int = 1) -> bool:
    """Whether so many updates were made in time."""
    lines = folder / "metrics.jsonl"
    return wait_for(lambda: lines.exists() and lines.read_text().count("\n") >= updates, 150)


def ended(process: subprocess.Popen[str], seconds: float = 30) -> tuple[int, list[str]]:
    """Exit code, and what was said on standard error beside the progress bar."""
    _, errors = process.communicate(timeout=seconds)
    lines = [line.rpartition("\r")[2] for line in errors.splitlines()]
    return process.returncode, [line for line in lines if line and not line.startswith("train:")]


def goes_on(folder: Path, *more: str) -> list[dict[str, float]]:
    done = gatepo("train", f"resume={folder}")
    assert done.returncode == 0, done.stderr
    return untimed(metrics(folder))


@pytest.mark.parametrize("number", CODES, ids=str)
def test_a_signal_leaves_a_checkpoint_and_one_line_that_says_how_to_go_on(started, number, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started("-m", "gatepo.train", *LONG, f"hydra.run.dir={run}")
    assert trained(run, 2)
    process.send_signal(number)
    code, said = ended(process)
    rows = len(metrics(run))
    assert (code, said) == (
        CODES[number],
        [f"gatepo: stopped by {number.name}; go on with: python -m gatepo.train resume={run}"],
    )
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"update-{rows:06d}"]
    assert not workers(run)


class SignalledAt(signals._Process):
    """A process that sends itself SIGTERM when it looks for the Nth time whether it was asked to stop."""

    at, looks, number = 0, 0, 0

    @property
    def asked(self) -> int:
        if self.finishing and threading.current_thread() is threading.main_thread():
            self.looks += 1
            if self.looks == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
                while not self.number:
                    time.sleep(0.01)
        return self.number

    @asked.setter
    def asked(self, number: int) -> None:
        self.number = number


def signal_at(look: int) -> None:
    """In the command's process."""
    signals._own = SignalledAt()
    signals._own.at = look


@pytest.mark.parametrize(
    ("every", "looks", "states"),
    [  # state: update, iteration of the rollout batch, and whether the update's metrics wait for an evaluation
        (
            2,  # which meets the last update
            (20, 70, 15, 50, 180, 120),
            [(0, None, False), (0, 0, False), (1, 1, False), (2, 2, True), (2, 2, False), (4, 2, True)],
        ),
        (3, (20, 300), [(0, None, False), (4, 2, False)]),  # in the evaluation at the end
    ],
)
def test_wherever_it_stops_the_run_goes_on_to_the_bit(
    tmp_path: Path, every: int, looks: tuple[int, ...], states: list[tuple[int, int | None, bool]]
) -> None:
    """While it samples, before and within an update, in either iteration, and while it evaluates, after that too."""
    small = (*SMALL, "updates=4", f"evaluate.every={every}", "threads=1")
    straight, run = tmp_path / "straight", tmp_path / "run"
    done = gatepo("train", *small, f"hydra.run.dir={straight}")
    assert done.returncode == 0, done.stderr
    command = (*small, f"hydra.run.dir={run}")
    for look, wanted in zip(looks, states, strict=True):
        done = gatepo("train", *command, first=partial(signal_at, look))
        assert done.returncode == 143, done.stderr
        assert done.stderr.splitlines()[-1].startswith("gatepo: stopped by SIGTERM; go on with"), done.stderr
        assert "Traceback" not in done.stderr
        state = checkpoint.read_state(checkpoint.found(run)[-1], 0)
        iteration = state.rollout_batch.iteration if state.rollout_batch else None
        assert (state.update, iteration, state.unwritten is not None) == wanted
        command = (f"resume={run}",)
    assert goes_on(run) == untimed(metrics(straight))
    for name in ("completions.jsonl", "model/model.safetensors"):
        assert (run / name).read_bytes() == (straight / name).read_bytes()
    assert (
        json.loads((run / "summary.json").read_text())["evaluation"]
        == json.loads((straight / "summary.json").read_text())["evaluation"]
    )


def test_before_training_a_signal_stops_at_once_and_later_a_second_one_does(started, tmp_path: Path) -> None:
    """A reward that never comes back: first to the evaluation before training, then to a run that goes on."""
    (tmp_path / "slow.py").write_text(SLOW)
    run, path = tmp_path / "run", f"{tmp_path}:{REPO}"
    process = started(*("-m", "gatepo.train", *LONG, ENDLESS, f"hydra.run.dir={run}"), PYTHONPATH=path)
    assert wait_for((tmp_path / "asked").exists, 120)
    process.send_signal(signal.SIGTERM)
    words = "there is no checkpoint to go on from, start it again"
    assert ended(process, 10) == (143, [f"gatepo: stopped by SIGTERM; {words}"])
    (tmp_path / "asked").unlink()
    more = ("evaluate.limit=1", f"hydra.run.dir={tmp_path / 'other'}")
    process = started(*("-m", "gatepo.train", *LONG, ENDLESS, *more), PYTHONPATH=path, PATIENT="3")
    assert wait_for((tmp_path / "asked").exists, 120)
    process.send_signal(signal.SIGINT)
    time.sleep(2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process, 10) == (143, [f"gatepo: stopped by SIGTERM; {words}"])


def test_two_ranks_stop_together_for_one_signal_and_go_on_to_the_bit(started, tmp_path: Path) -> None:
    """To the process that a person started, to its terminal, or to one rank alone."""
    straight, run = tmp_path / "straight", tmp_path / "run"
    small = (*SMALL, "devices=2", "updates=8")
    done = gatepo("train", *small, f"hydra.run.dir={straight}")
    assert done.returncode == 0, done.stderr
    more: tuple[str, ...] = (*small, f"hydra.run.dir={run}")
    for updates, (name, number) in enumerate((("one", 15), ("terminal", 2), ("rank", 15)), 1):
        process = started("-m", "gatepo.train", *more)
        assert trained(run, updates)
        ranks = [pid for pid in workers(run) if "gatepo.launch.rank" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(ranks) == 2
        os.kill({"one": process.pid, "terminal": -process.pid, "rank": max(ranks)}[name], number)
        words = f"gatepo: stopped by {signal.Signals(number).name}; go on with: python -m gatepo.train resume={run}"
        assert ended(process) == (128 + number, [words])
        assert wait_for(lambda: not workers(run), 5)
        assert not list(run.glob("job*"))
        more = (f"resume={run}",)
    assert goes_on(run) == untimed(metrics(straight))


def test_a_rank_does_not_stop_alone_for_a_signal_that_came_while_the_ranks_asked_each_other(monkeypatch) -> None:
    """The others have its answer already, by which they go on into the next collective: it stops when next asked."""
    monkeypatch.setattr(signals, "_own", signals._Process())

    def maximum(world: World, *values: float) -> list[float]:
        signals.ask(signal.SIGTERM)
        return list(values)

    monkeypatch.setattr(World, "maximum", maximum)
    rank = World(rank=1, size=2)
    rank.stop_if_asked()
    with pytest.raises(Interrupted):
        rank.stop_if_asked()


def test_torchruns_ranks_stop_together(started, tmp_path: Path) -> None:
    """torchrun sends SIGTERM to each; its own traceback and exit code are its own."""
    run = tmp_path / "run"
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
    process = started(*torchrun, "--rdzv-endpoint", "127.0.0.1:0", "-m", "gatepo.train", *LONG, f"hydra.run.dir={run}")
    assert trained(run)
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    words = f"gatepo: stopped by SIGTERM; go on with: python -m gatepo.train resume={run}"
    assert said.count(words) == 1, said
    assert code == 1
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"update-{len(metrics(run)):06d}"]


@pytest.mark.parametrize("to", ["parent", "terminal"])
def test_a_multirun_stops_as_a_whole(started, tmp_path: Path, to: str) -> None:
    process = started("-m", "gatepo.train", "-m", *LONG, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert trained(tmp_path / "0")
    os.kill(process.pid if to == "parent" else -process.pid, signal.SIGINT)
    code, said = ended(process)
    assert (code, said[-1].partition(" python ")[0]) == (
        130,
        "gatepo: stopped by SIGINT; 0 of 2 jobs have finished; go on with:",
    )
    assert not workers(tmp_path)
    assert not (tmp_path / "1" / "metrics.jsonl").exists()


def test_vllm_stops_within_its_sampling_for_a_signal_from_the_terminal(started, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    run = tmp_path / "run"
    process = started("-m", "gatepo.train", *LONG, "rollout=vllm", f"hydra.run.dir={run}")
    assert trained(run)
    os.killpg(process.pid, signal.SIGINT)
    words = f"gatepo: stopped by SIGINT; go on with: python -m gatepo.train resume={run}"
    code, said = ended(process)
    assert (code, said[-1]) == (130, words)
    assert not [line for line in said if "Traceback" in line]
    assert not workers(run)


def test_sharded_ranks_stop_together_and_go_on_to_the_bit(started, tmp_path: Path) -> None:
    """DeepSpeed's checkpoint and each of its passes need both ranks."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
    sharded = ("engine=deepspeed", "engine.zero_stage=3", "engine.persistence_threshold=0", "devices=2")
    straight, run = tmp_path / "straight", tmp_path / "run"
    small = (*SMALL, *sharded, "updates=8", "batch.micro=2")
    done = gatepo("train", *small, f"hydra.run.dir={straight}")
    assert done.returncode == 0, done.stderr
    process = started("-m", "gatepo.train", *small, f"hydra.run.dir={run}")
    assert trained(run, 2)
    os.killpg(process.pid, signal.SIGINT)
    code, said = ended(process)
    words = f"gatepo: stopped by SIGINT; go on with: python -m gatepo.train resume={run}"
    assert (code, said[-1]) == (130, words)
    assert not [line for line in said if "Traceback" in line]
    assert goes_on(run) == untimed(metrics(straight))


def test_an_evaluation_and_a_probe_stop_at_once_in_one_line(started, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = gatepo("train", *SMALL, "evaluate.limit=1", "checkpoint.every=1", f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    for number, (module, *words) in (
        (signal.SIGINT, ("evaluate", f"run={run}", "samples=64")),
        (signal.SIGTERM, ("probe", f"run={run}")),
    ):
        process = started("-m", f"gatepo.{module}", *words)
        assert wait_for(lambda pid=process.pid: "torch" in Path(f"/proc/{pid}/maps").read_text(), 60)
        os.killpg(process.pid, number)
        code, said = ended(process, 10)
        assert (code, said[-1:]) == (CODES[number], [f"gatepo: stopped by {number.name}"]), said
        assert not [line for line in said if "Traceback" in line]


def test_what_a_child_receives_does_not_count_for_its_parent() -> None:
    """A forked child would write into the pipe by which its parent's thread receives signals."""
    source = (
        "import os, signal, time\n"
        "from gatepo import signals\n"
        "signals.listen()\n"
        "with signals.finishing():\n"
        "    child = os.fork()\n"
        "    if child == 0: time.sleep(60)\n"
        "    time.sleep(0.2)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitpid(child, 0)[1], signals.asked(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.5)\n"
        "    print(signals.asked())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["15", "0", "15"]


AT_ONCE = """
import os, runpy, signal, sys, time
class Stop:
    def find_spec(self, name, path, target=None):
        if name == "gatepo.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
sys.meta_path.insert(0, Stop())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("command", ["train", "evaluate", "probe", "plan", "gates", "report", "replay", "verify"])
def test_a_command_ends_in_one_line_while_it_is_still_importing(
    command: str, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started("-c", AT_ONCE, f"gatepo.{command}", "x")
    assert ended(process) == (130, ["gatepo: stopped by SIGINT"])


def test_a_multirun_that_is_still_starting_its_jobs_stops_in_one_line(started, tmp_path: Path) -> None:
    """While the process from which jobs are forked imports what they need; it died of the signal once."""
    grid = ("-m", "gate=erf,clip", "jobs=2", "updates=4", "evaluate.limit=4", f"hydra.sweep.dir={tmp_path / 'm'}")
    process = started("-m", "gatepo.train", *grid)

    def imports() -> bool:
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes()
                if b"multiprocessing.forkserver" in words and os.getpgid(int(entry.name)) == process.pid:
                    return True
        return False

    assert wait_for(imports, 60)
    time.sleep(0.7)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("gatepo: stopped by SIGINT; 0 of 2 jobs have finished; go on with: ")
