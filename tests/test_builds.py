"""A build of DeepSpeed's parts that is killed must not hold up later runs."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatepo.engine import builds

BUILD = """
import sys
from torch.utils.cpp_extension import load
load("part", [sys.argv[1]], is_python_module=False)
print("built")
"""


def build(folder: Path, compiler: Path | str) -> "subprocess.Popen[str]":
    """Build a small part with torch, as DeepSpeed does."""
    (folder / "part.cpp").write_text('extern "C" int one() { return 1; }\n')
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder / "built"), "CXX": str(compiler)}
    command = [sys.executable, "-c", BUILD, str(folder / "part.cpp")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


def stuck(folder: Path) -> Path:
    """Make a compiler that says which it is, and never comes to an end."""
    compiler = folder / "compiler"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-c*) touch {folder}/compiling; sleep 600;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    return compiler


def test_a_killed_build_is_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed = build(tmp_path, stuck(tmp_path))
    while not (tmp_path / "compiling").exists():
        assert killed.poll() is None
        time.sleep(0.1)
    lock = tmp_path / "built" / "part" / "lock"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "built"))
    monkeypatch.setattr(builds, "QUIET", 0.0)
    builds.free_abandoned(["part"])
    assert lock.exists()  # the build lives
    os.killpg(killed.pid, 9)
    killed.communicate()
    assert lock.exists()
    with caplog.at_level(logging.WARNING):
        builds.free_abandoned(["part"])
    assert not lock.exists() and "which a build that was killed had left" in caplog.text
    done = build(tmp_path, "c++")
    assert done.communicate(timeout=300)[0].endswith("built\n")


def test_another_host_that_builds_on_the_same_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lock = tmp_path / "py311_cpu" / "part" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(builds, "PAUSE", 0.01)
    monkeypatch.setattr(builds, "QUIET", 0.5)
    started = time.monotonic()
    builds.free_abandoned(["part"])
    assert time.monotonic() - started >= 0.4 and not lock.exists()
    assert "if none of another one that shares this disk does, remove that file" in caplog.text
