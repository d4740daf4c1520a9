"""Every config that README, experiments/ and sweeps/ can name resolves to the values that were committed."""

import json
import os
from typing import Any

import pytest
import yaml
from conftest import REPO
from hydra import compose, initialize_config_dir

from gatepo import config
from gatepo.presets import CLAIMS, register, yaml_dir
from gatepo.schema import TrainConfig

register()

GOLDEN = REPO / "tests" / "golden" / "configs.json"
# Keys of an earlier form of the config: null or empty throughout, or W&B's settings without W&B.
GONE = ("gate._target_", "gate.arguments", "tracker.project", "tracker.mode")
GROUPS = (
    *("gate", "tau", "ratio", "aggregation", "advantage", "correction", "kl"),
    *("optimizer", "model", "data", "reward", "rollout", "engine", "tracker", "method"),
)
NEEDED = {"gate=custom": ["gate.slope='exp(-tau*abs(x-1))'"]}
BENCHMARKS = ("gsm8k_test", "math500", "aime24", "aime25")


def _files(folder: str) -> list[str]:
    root = REPO / folder
    return sorted(str(f.relative_to(root).with_suffix("")) for f in root.rglob("*.yaml") if f.name != CLAIMS)


def _overrides() -> list[str]:
    """Words of the command line, in one line each."""
    found = [""]
    for group in GROUPS:
        for option in _files(f"conf/{group}"):
            chosen = f"[tiny,{option}]" if group == "data" and option in BENCHMARKS else option
            plus = "+" if group == "method" else ""
            text = f"{plus}{group}={chosen}"
            found.append(" ".join([text, *NEEDED.get(text, ())]))
    experiments = [name for name in _files("experiments") if name != "paper/table1"]
    found += [f"+experiment={name}" for name in experiments]
    for sweep in _files("sweeps"):
        grid = yaml.safe_load((REPO / "sweeps" / f"{sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
        first = {key: str(values).split(",")[0] for key, values in grid.items()}
        points = [f"{key}={value}" for key, values in grid.items() for value in str(values).split(",")]
        for point in points:
            of = point.partition(".")[0]  # what has the setting must be chosen beside it
            chosen = f"{of}={first[of]} {point}" if of in first and "." in point.partition("=")[0] else point
            found += [f"+experiment={name} {chosen}" for name in experiments if not name.startswith("paper/figure")]
    return [*dict.fromkeys(found)]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def resolved(overrides: str) -> dict[str, Any]:
    """What ``python -m gatepo.train`` would write into config.yaml."""
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        return flat(config.plain(config.from_composed(TrainConfig, compose("train", overrides.split()))))


def test_golden_configs_are_written_only_on_purpose() -> None:
    """``GATEPO_GOLDEN=write`` makes the file anew, to be explained in the commit that does."""
    if os.environ.get("GATEPO_GOLDEN") == "write":
        first = resolved("")
        golden = {"": first}
        for overrides in _overrides()[1:]:
            found = resolved(overrides)
            golden[overrides] = {key: value for key, value in found.items() if first.get(key, "absent") != value}
            golden[overrides] |= {key: "absent" for key in first if key not in found}
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert GOLDEN.is_file()


@pytest.mark.parametrize("overrides", list(json.loads(GOLDEN.read_text())) if GOLDEN.is_file() else [])
def test_config_resolves_as_committed(overrides: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    expected = golden[""] | golden[overrides]
    kept = ("tracker.project", "tracker.mode") if expected["tracker.name"] == "wandb" else ()
    expected = {key: value for key, value in expected.items() if key in kept or key not in GONE}
    assert resolved(overrides) == {key: value for key, value in expected.items() if value != "absent"}
