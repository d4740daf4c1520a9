"""docs/from-verl.md: verl's settings are there, with these defaults. In .venv-verl, by make test-verl."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import theirs, value


def test_verls_settings_have_these_defaults() -> None:
    """The files are read as they are, without what they would import."""
    spec = find_spec("verl")
    if spec is None:
        pytest.skip("verl is not installed; make test-verl has it")
    assert spec.submodule_search_locations
    known = verls(Path(spec.submodule_search_locations[0]) / "trainer" / "config")
    found = theirs("from-verl")
    assert len(found) > 45
    wrong = {}
    for name, text in found:
        group = name.split(".")[0]
        full = f"actor_rollout_ref.{name}" if group in ("actor", "rollout", "model") else name
        if full not in known or (text and not same(known[full], value(text))):
            wrong[name] = (text, known.get(full, "is not there"))
    assert wrong == {}


def verls(folder: Path) -> dict[str, Any]:
    """verl's defaults by dotted key, from the file that verl itself makes of all of its own."""
    composed = yaml.safe_load((folder / "_generated_ppo_trainer.yaml").read_text(encoding="utf-8"))
    return dict(flat(composed, ""))


def flat(part: dict[str, Any], above: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, inner in part.items():
        found.append((above + name, inner))
        found += flat(inner, f"{above}{name}.") if isinstance(inner, dict) else []
    return found


def same(known: Any, said: Any) -> bool:
    try:
        return float(known) == float(said)
    except (TypeError, ValueError):
        return known == said
