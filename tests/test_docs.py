"""The documentation site builds without a warning, and README is short."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPO

WORDS = 900


def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    """Among the warnings are links to pages, figures and headings that are not there."""
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed (make .venv/test)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "settings/index.html", "benchmarks/index.html", "api/index.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, page
    assert "effective_update_ratio" in (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert "target_eur" in (tmp_path / "settings" / "index.html").read_text(encoding="utf-8")


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    """What the test above rests on."""
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed (make .venv/test)")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[nothing](nothing.md)\n")
    config = (REPO / "mkdocs.yml").read_text().split("nav:")[0]
    lines = [line for line in config.splitlines() if not line.startswith(("hooks:", "exclude_docs:"))]
    (tmp_path / "mkdocs.yml").write_text(
        "\n".join(lines).replace("docs/docstrings.py", str(REPO / "docs/docstrings.py"))
    )
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing.md" in done.stderr


def test_the_readme_is_short() -> None:
    assert len((REPO / "README.md").read_text(encoding="utf-8").split()) <= WORDS
