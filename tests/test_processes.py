"""Several processes: on this host, on two hosts, and what happens when one of them dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import gatepo
from conftest import REPO
from test_run import metrics, untimed

from gatepo.launch.slurm import torchrun_environment
from gatepo.world import PATIENCE, Watch, World, place_in

SMALL = ("updates=2", "batch.prompts=4", "batch.micro=8", "evaluate.limit=8")


def workers(folder: Path) -> list[int]:
    """Process ids that have this run's folder in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(folder) in (entry / "cmdline").read_bytes().decode():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(condition, seconds: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def test_shares_are_consecutive_and_together_everything() -> None:
    for size in (1, 2, 3, 8):
        shares = [World(rank=r, size=size).share(range(10)) for r in range(size)]
        assert [x for share in shares for x in share] == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_place_comes_from_torchrun_or_from_slurm() -> None:
    assert place_in({}) is None
    assert place_in({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == World(rank=3, size=4, local_rank=1)
    slurm = {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "8",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "70001",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }
    assert torchrun_environment(slurm, lambda nodes: ["node7", "node8"]) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "node7",
        "MASTER_PORT": "30001",  # 20000 + 70001 % 20000
    }
    assert torchrun_environment(slurm | {"RANK": "0"}) == {}  # torchrun within a SLURM job
    assert torchrun_environment(slurm | {"SLURM_STEP_NUM_TASKS": "1"}) == {}
    del slurm["SLURM_STEP_ID"]
    assert torchrun_environment(slurm) == {}  # the script of sbatch itself


def test_the_watch_tells_a_silent_rank_from_a_slow_one() -> None:
    watch = Watch(World(rank=0, size=3))
    assert watch.silent({1: b"1", 2: b"1"}, now=0.0) is None
    assert watch.silent({1: b"1", 2: b"2"}, now=PATIENCE) is None
    assert watch.silent({1: b"1", 2: b"2"}, now=PATIENCE + 1) == 1
    assert watch.silent({1: b"9", 2: b"2"}, now=PATIENCE + 1) is None
    assert watch.silent({1: b"9", 2: b"2"}, now=2 * PATIENCE + 1) == 2


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    for devices in (1, 2):
        more = ("updates=4", "evaluate.every=2", f"devices={devices}", f"hydra.run.dir={tmp_path / str(devices)}")
        done = gatepo("train", *SMALL, *more)
        assert done.returncode == 0, done.stderr
    one, two = (untimed(metrics(tmp_path / name)) for name in ("1", "2"))
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            # not to the bit: the sums are taken in another order
            assert b[key] == pytest.approx(a[key], rel=1e-3, abs=1e-4), key
    assert one[1]["evaluation/easy"] > 0 and "evaluation/easy" in one[3]  # and every rank's share of the sets counts
    assert (tmp_path / "2" / "model" / "model.safetensors").exists()
    assert not list((tmp_path / "2").glob("job*"))


def test_two_tasks_of_slurm_train_together(tmp_path: Path) -> None:
    """What srun sets for each task, and the one tool of SLURM that is asked, standing in for a cluster."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 127.0.0.1\n")
    tool.chmod(0o755)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1]", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}
    job["SLURM_STEP_NUM_NODES"] = "1"
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "gatepo.train", *SMALL, f"hydra.run.dir={folder}"]
    tasks = [
        subprocess.Popen(
            command,
            cwd=REPO,
            env=os.environ
            | job
            | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "PATH": f"{tool.parent}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    results = [task.communicate(timeout=180) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], results[0][1][-2000:]
    assert "2 updates in" in results[0][0]
    assert "2 updates in" not in results[1][0]
    assert len(metrics(folder)) == 2


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run of two processes in the middle of training."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "gatepo.train", *SMALL, "updates=400", "devices=2", f"hydra.run.dir={folder}"],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = folder / "metrics.jsonl"
    assert wait_for(lambda: lines.exists() and lines.stat().st_size > 0, 120)
    yield process, folder
    process.kill()
    process.communicate()


def ranks(folder: Path) -> list[int]:
    """Process ids of the ranks of this run."""
    return [pid for pid in workers(folder) if b"gatepo.launch.rank" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_rank_takes_the_others_down_and_is_named(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    pids = ranks(folder)
    assert len(pids) == 2
    os.kill(max(pids), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"rank 1 died (process {max(pids)}, exit code -9)" in errors.splitlines()[-2] + errors.splitlines()[-1]
    assert wait_for(lambda: not workers(folder), 10)
    assert not (folder / "summary.json").exists()


def test_ranks_that_are_just_starting_end_with_what_started_them_and_its_file_goes_next_time(
    tmp_path: Path,
) -> None:
    """They would have waited two hours for somebody to join; the harness of kills found it."""
    folder = tmp_path / "run"
    words = [*SMALL, "devices=2", "resume=auto", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "gatepo.train", *words]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: len(ranks(folder)) == 2, 60)
    started = ranks(folder)
    time.sleep(1)
    process.kill()
    process.wait()
    assert wait_for(lambda: not set(started) & set(workers(folder)), 20)
    left = list(folder.glob("job-*.yaml"))
    assert len(left) == 1
    own = folder / f"job-{os.getpid()}.yaml"  # of a process that lives
    own.touch()
    assert gatepo("train", *words).returncode == 0
    assert list(folder.glob("job-*.yaml")) == [own]


def test_an_interrupt_ends_every_process(started: tuple[subprocess.Popen[str], Path]) -> None:
    process, folder = started
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert wait_for(lambda: not workers(folder), 10)


def test_a_rank_that_raises_shows_its_traceback_last(tmp_path: Path) -> None:
    """Rank 1 alone cannot import its reward: a fault on one rank only, as a broken node would give."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from gatepo.rewards import reward\n"
        "    def broken(self, groups): raise OverflowError('only on rank 1')\n"
        "    reward.AnswerAndFormatReward.__call__ = broken\n"
    )
    done = gatepo("train", *SMALL, "devices=2", f"hydra.run.dir={tmp_path / 'run'}", PYTHONPATH=f"{tmp_path}:{REPO}")
    assert done.returncode == 2
    assert "OverflowError: only on rank 1" in done.stderr.splitlines()[-1]
    assert "rank 1 died" in done.stderr


def test_what_every_rank_finds_wrong_is_said_once(tmp_path: Path) -> None:
    done = gatepo("train", *SMALL, "devices=2", f"model.path={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("gatepo: ")] == done.stderr.splitlines()[-1:]
    assert f"model.path={tmp_path}" in done.stderr.splitlines()[-1]


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with an address each, joined by a cable."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("two hosts need iproute2 and root")
    names = [f"gatepo{os.getpid()}{i}" for i in (0, 1)]
    try:
        for name in names:
            ip(f"netns add {name}")
        ip(f"link add ga0 netns {names[0]} type veth peer name ga1 netns {names[1]}")
        for i, name in enumerate(names):
            ip(f"-n {name} addr add 10.77.0.{i + 1}/24 dev ga{i}")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} link set ga{i} up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    yield names
    for name in names:
        kill_all(name)
        ip(f"netns del {name}")


def ip(command: str) -> str:
    return subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True).stdout


def kill_all(host: str) -> None:
    for pid in ip(f"netns pids {host}").split():
        os.kill(int(pid), signal.SIGKILL)


def start_on(hosts: list[str], folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """One rank on each host, by torchrun."""
    processes = []
    for i, host in enumerate(hosts):
        torchrun = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(i)),
            *("--nproc-per-node", "1", "--master-addr", "10.77.0.1", "--master-port", "29511"),
        ]
        processes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", host, *torchrun, "-m", "gatepo.train", *arguments, f"hydra.run.dir={folder}"],
                cwd=REPO,
                env=os.environ | {"GLOO_SOCKET_IFNAME": f"ga{i}", "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def test_two_hosts_train_together(hosts: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    processes = start_on(hosts, folder, *SMALL)
    results = [process.communicate(timeout=180) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], results[0][1][-2000:]
    assert "2 updates in" in results[0][0]
    assert "2 updates in" not in results[1][0]  # the first rank alone speaks
    assert len(metrics(folder)) == 2


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_the_death_of_a_host_ends_the_other_within_a_minute(hosts: list[str], tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    processes = start_on(hosts, folder, *SMALL, "updates=400")
    lines = folder / "metrics.jsonl"
    assert wait_for(lambda: lines.exists() and lines.stat().st_size > 0, 120)
    died = time.monotonic()
    if how == "killed":
        kill_all(hosts[1])
        survivor, said = 0, "rank 1 on "
    else:  # the host of rank 0, and of the store: its cable is pulled
        ip(f"-n {hosts[0]} link set ga0 down")
        survivor, said = 1, "the host of rank 0"
    _, errors = processes[survivor].communicate(timeout=90)
    assert time.monotonic() - died < 60
    assert processes[survivor].returncode != 0
    assert said in errors
    assert "died; this process stops" in errors
    kill_all(hosts[1 - survivor])
    processes[1 - survivor].communicate(timeout=30)
