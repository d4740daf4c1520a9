"""The notebooks: committed without what they print, run from start to end, and a page of the site each."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import REPO

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
NAMES = ["read_eur", "write_a_gate", "your_data_and_reward"]
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(book, timeout=900, kernel_name="python3").execute(cwd=sys.argv[2])
nbformat.write(book, sys.argv[2] + "/executed.ipynb")
"""


def cells(notebook: Path, kind: str) -> list[dict]:
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_there_are_three() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_what_it_prints(notebook: Path) -> None:
    code = cells(notebook, "code")
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert cells(notebook, "markdown")[0]["source"][0].startswith("# ")
    for cell in code:
        compile("".join(cell["source"]), notebook.name, "exec")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_start_to_end(notebook: Path, tmp_path: Path) -> None:
    """In a process of its own, with a kernel of its own; its asserts are among what is run."""
    if find_spec("nbclient") is None or find_spec("ipykernel") is None:
        pytest.skip("nbclient and ipykernel are not installed (make .venv/test)")
    variables = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", EXECUTE, str(notebook), str(tmp_path)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = [output for cell in cells(tmp_path / "executed.ipynb", "code") for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs), "a figure is drawn"
    assert (tmp_path / "outputs" / notebook.stem).is_dir(), "what it leaves is below outputs/, which git ignores"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page_of_the_site(notebook: Path) -> None:
    assert f"notebook-{notebook.stem}.md" in (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    pages = "".join(page.read_text(encoding="utf-8") for page in (REPO / "docs").glob("*.md"))
    assert f"](../notebooks/{notebook.name})" in pages
