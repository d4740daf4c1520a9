"""``import gatepo``: a library that another trainer uses."""

import doctest
import importlib
import inspect
import subprocess
import sys

import pytest
import torch
from conftest import REPO

import gatepo

NAMES = [name for name in gatepo.__all__ if name != "gates"]
GATES = [name for name in gatepo.gates.__all__ if name not in ("Bounds", "Clipping", "Formula", "Formulated", "Gate")]
MODULES = sorted(
    {
        *(getattr(gatepo, name).__module__ for name in NAMES),
        *(getattr(gatepo.gates, name).__module__ for name in GATES),
        *("gatepo", "gatepo.gates"),
    }
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), extraglobs={"torch": torch})
    assert found.failed == 0
    assert found.attempted > 0


@pytest.mark.parametrize("name", [*NAMES, *(f"gates.{name}" for name in GATES)])
def test_every_public_name_has_an_example_and_says_what_it_is(name: str) -> None:
    thing = gatepo
    for part in name.split("."):
        thing = getattr(thing, part)
    text = inspect.getdoc(thing) or ""
    assert ">>> " in text
    assert len(text.split(">>> ")[0].strip()) > 20


def test_types_come_along() -> None:
    assert (REPO / "gatepo" / "py.typed").is_file()


def test_unknown_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match=r"module 'gatepo' has no attribute 'Cliff'"):
        _ = gatepo.Cliff
    assert "policy_loss" in dir(gatepo)


def test_the_library_costs_little_beyond_torch() -> None:
    """CPU seconds of importing all public names after torch; 0.3 is allowed, the least of three is taken."""
    code = (
        "import time, torch\n"
        "start = time.process_time()\n"
        "import gatepo\n"
        "for name in gatepo.__all__: getattr(gatepo, name)\n"
        "print(time.process_time() - start)\n"
        "import sys\n"
        "assert not {'transformers', 'hydra', 'omegaconf', 'sympy', 'matplotlib'} & set(sys.modules), 'too much'\n"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(done.stdout) for done in runs) < 0.3


def test_the_lines_of_the_page_train_a_plain_loop() -> None:
    """The block of docs/library.md, run as it stands."""
    text = (REPO / "docs" / "library.md").read_text()
    block = text.split("```python")[1].split("```")[0]
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec("import torch", names)
    exec(block, names)
    losses, eur = names["losses"], names["eur"]
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    assert 0 < eur < 1
