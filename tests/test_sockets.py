"""Who can talk to the processes of a run: where all of them are on one host, nobody from outside it."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from test_processes import SMALL, wait_for, workers

from gatepo.world import on_one_host, store_on_loopback

LISTENS = "0A"  # of the kernel's include/net/tcp_states.h


def listening(processes: list[int]) -> set[str]:
    """The addresses on which these processes listen, IPv4 and IPv6, as the kernel has them."""
    found = set()
    for process in processes:
        links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()]
        own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
        for kind in ("tcp", "tcp6"):
            for line in Path(f"/proc/{process}/net/{kind}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENS and words[9] in own:
                    found.add(address(words[1].partition(":")[0]))
    return found


def address(hexadecimal: str) -> str:
    """What /proc/net/tcp writes as words of the machine's byte order."""
    words = [int(hexadecimal[at : at + 8], 16) for at in range(0, len(hexadecimal), 8)]
    return socket.inet_ntop(
        socket.AF_INET if len(words) == 1 else socket.AF_INET6, struct.pack(f"={len(words)}I", *words)
    )


def test_the_kernels_words_are_read_aright() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert listening([os.getpid()]) == {"127.0.0.1"}
        with socket.create_server(("0.0.0.0", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6):
            assert listening([os.getpid()]) == {"127.0.0.1", "0.0.0.0", "::1"}


@pytest.mark.parametrize(
    ("package", "chosen"),
    [
        ("torch", ()),
        ("deepspeed", ("engine=deepspeed",)),
        ("vllm", ("rollout=vllm", "rollout.tensor_parallel_size=2")),
    ],
)
def test_the_processes_of_one_host_listen_on_loopback_alone(
    tmp_path: Path, package: str, chosen: tuple[str, ...]
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed; make test installs it")
    folder = tmp_path / "run"
    asked = (*SMALL, "updates=400", "devices=2", *chosen, f"hydra.run.dir={folder}")
    command = [sys.executable, "-m", "gatepo.train", *asked]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = folder / "metrics.jsonl"
    try:
        begun = wait_for(lambda: (lines.exists() and lines.stat().st_size > 0) or process.poll() is not None, 240)
        assert begun and process.poll() is None, process.communicate()[0][-2000:]
        found = listening(workers(folder))
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert found == {"127.0.0.1"}


def test_a_store_listens_on_loopback_alone() -> None:
    before = listening([os.getpid()])
    store = store_on_loopback()
    assert listening([os.getpid()]) - before == {"127.0.0.1"}
    store.set("a", "b")
    assert store.get("a") == b"b"


def test_what_is_one_host_is_known_from_whoever_started_the_processes() -> None:
    torchrun = {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}
    assert on_one_host(torchrun)
    assert not on_one_host(torchrun | {"WORLD_SIZE": "16"})
    slurm = {"RANK": "0", "WORLD_SIZE": "8", "SLURM_STEP_NUM_NODES": "1"}
    assert on_one_host(slurm)
    assert not on_one_host(slurm | {"SLURM_STEP_NUM_NODES": "2"})
    assert not on_one_host({"RANK": "0", "WORLD_SIZE": "8"})
