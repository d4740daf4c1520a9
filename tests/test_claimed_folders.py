"""A folder that one process alone writes into: held as long as that lives, and no longer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, one_line

from gatepo import claim
from gatepo.errors import UserError

HOLDS = """
import os, sys, time
from pathlib import Path
from gatepo import claim
with claim.held(Path(sys.argv[1]), "out"):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.read()
    os._exit(1)
"""


def test_a_claim_lives_as_long_as_its_process_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in a child that outlives it."""
    monkeypatch.setattr(claim, "PATIENCE", 0.3)
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    child = int(process.stdout.readline())
    for attempt in (claim.held(tmp_path, "out").__enter__, lambda: claim.refuse_if_held(tmp_path, "out")):
        with pytest.raises(UserError) as refused:
            attempt()
        words = (
            f"out must be a folder that no other process writes into, got {tmp_path}, which process {process.pid} on"
        )
        assert words in one_line(refused)
    process.stdin.close()
    process.wait()
    try:
        os.kill(child, 0)  # it is still there
        with claim.held(tmp_path, "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


HOLDS_A_SECOND = """
import sys, time
from pathlib import Path
from gatepo import claim
with claim.held(Path(sys.argv[1]), "out"):
    print(flush=True)
    time.sleep(1)
"""


def test_who_comes_before_a_killed_process_is_gone_waits_for_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_A_SECOND, tmp_path]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        claim.refuse_if_held(tmp_path, "out")
        with claim.held(tmp_path, "out"):
            pass
