"""The short form of ``python -m tests.faults``: real runs, killed, damaged and cut off, that must go on to the bit."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import REPO

from tests.faults import table


def test_runs_go_on_to_the_bit_whatever_happens_to_them(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("kills at file operations need a C compiler")
    file = tmp_path / "faults.jsonl"
    command = [sys.executable, "-m", "tests.faults", str(file), "short"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    tried = Counter(line["kind"] for line in lines)
    assert {"kill", "flip", "stop", "collision"} <= set(tried)
    assert sum(len(line.get("kills", ())) for line in lines) >= 5, "too few kills hit a run"


def test_the_page_has_the_tables_of_what_was_kept() -> None:
    page = table.PAGE.read_text()
    assert table.written(page) == page
    assert table.written(page.replace("| SIGKILL", "| a SIGKILL", 1)) == page
