"""What a new option costs: the files that are touched, shown by adding four to a copy of the package and training."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPO

GATE = '''

@option("gate", "cauchy_power")
class CauchyPower:
    """The arctan gate's slope to a power."""

    width: float = setting("The half-width is this over tau.", default=2.0, rule=POSITIVE)

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See Gate."""
        return 1 + self.width * torch.atan(tau * (ratio - 1) / self.width) / tau

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See Gate."""
        return 1 / (1 + (tau * (ratio - 1) / self.width) ** 2)

    def half_width(self, tau: float) -> float:
        """See Gate."""
        return self.width / tau
'''
ADVANTAGE = '''

@option("advantage", "signs")
class Signs:
    """The sign of the centred reward."""

    size: float = setting("|A| of every completion that is not at the mean.", default=1.0, rule=at_least(0))

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return self.size * _centred(reward_PG).sign()
'''
SAMPLER = '''"""A sampler that is slower."""

from __future__ import annotations

from gatepo.rollout.base import RolloutEngine, RolloutParts
from gatepo.rollout.transformers import Transformers
from gatepo.settings import at_least, option, setting


@option("rollout", "patient")
class Patient(Transformers):
    """The loop over transformers, by another name."""

    pause: int = setting("Milliseconds that it waits.", default=3, rule=at_least(0))

    def make(self, parts: RolloutParts) -> RolloutEngine:
        """See RolloutOption."""
        return Transformers.make(self, parts)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with what is added, and the files that each addition has touched."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("gatepo", "conf", "experiments", "sweeps"):
        shutil.copytree(REPO / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def add_a_gate(root: Path) -> None:
    file = root / "gatepo" / "objective" / "gates" / "peers.py"
    file.write_text(file.read_text() + GATE)


def add_an_advantage(root: Path) -> None:
    file = root / "gatepo" / "objective" / "advantage.py"
    file.write_text(file.read_text() + ADVANTAGE)


def add_a_setting(root: Path) -> None:
    file = root / "gatepo" / "objective" / "aggregation.py"
    change(
        file,
        "    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:\n"
        '        """See :class:`Aggregation`."""\n'
        "        return (term_NT * mask_NT).sum() / max(totals.tokens, 1)",
        '    factor: float = setting("All of it counts this much.", default=1.0)\n\n'
        "    def mean(self, term_NT: Tensor, mask_NT: Tensor, totals: Totals) -> Tensor:\n"
        '        """See Aggregation."""\n'
        "        return self.factor * (term_NT * mask_NT).sum() / max(totals.tokens, 1)",
    )


def add_a_sampler(root: Path) -> None:
    (root / "gatepo" / "rollout" / "patient.py").write_text(SAMPLER)
    change(root / "gatepo" / "schema.py", '"rollout.vllm"', '"rollout.vllm", "rollout.patient"')


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("add", "files"), [(add_a_gate, 1), (add_an_advantage, 1), (add_a_setting, 1), (add_a_sampler, 2)]
)
def test_files_to_touch(copy: Path, add, files: int) -> None:
    before = contents(copy)
    add(copy)
    touched = [path for path, text in contents(copy).items() if before.get(path) != text]
    assert len(touched) == files


def test_what_was_added_is_chosen_checked_listed_and_trained_with(copy: Path, tmp_path: Path) -> None:
    """After the tests above, in this order."""

    def train(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gatepo.train", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )

    chosen = ("gate=cauchy_power", "advantage=signs", "aggregation=token_mean", "rollout=patient")
    given = ("gate.width=3", "advantage.size=2", "aggregation.factor=0.5", "rollout.pause=1")
    small = ("updates=2", "batch.prompts=2", "batch.micro=8", "evaluate.limit=1")
    done = train(*chosen, *given, *small, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    held = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert held["gate"] == {"name": "cauchy_power", "width": 3.0}
    assert held["advantage"] == {"name": "signs", "size": 2.0}
    assert held["aggregation"] == {"name": "token_mean", "factor": 0.5}
    assert (held["rollout"]["name"], held["rollout"]["pause"]) == ("patient", 1)
    refused = train("advantage=signs", "advantage.size=-1")
    assert refused.stderr.strip() == "gatepo: advantage.size must be >= 0, got -1.0; 1 is the default"
    assert "advantage.size=1.0" in train("advantage=signs", "--help").stdout
