"""An evaluation's folder: who may write into it, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatepo import durable
from gatepo.errors import UserError
from gatepo.evaluate.generations import Problem, finished_problems

IDENTITY, RESULTS = "identity.json", "evaluation.json"
NAME = "model"  # of what is evaluated; in the identity for a person to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The graded completions of one model."""

    name: str
    sets: dict[str, list[Problem]]


def claim(out: Path, identity: Mapping[str, str]) -> None:
    """Say in ``out`` what is evaluated there; further sets and an interrupted evaluation may come on top.

    Raises:
      UserError: it holds another evaluation, or its identity.json is damaged.
    """
    path = out / IDENTITY
    if not path.is_file():
        durable.write_text(path, json.dumps(identity, indent=2) + "\n")
        return
    before = _identity(out)
    for key, value in identity.items():
        if key != NAME and before.get(key) != value:  # a model is its content, wherever it lies
            raise UserError(
                f"out={out} must hold this same evaluation, got one with {key}={before.get(key)} in place of {value}; "
                "choose another folder with out=FOLDER"
            )


def finished(out: Path) -> Evaluation:
    """Read an evaluation that was brought to its end.

    Raises:
      UserError: the folder holds none.
    """
    if not (out / RESULTS).is_file():
        raise UserError(
            f"against and beside must be folders of finished evaluations, got {out} without {RESULTS}; "
            "give the folder that gatepo.evaluate printed at its end"
        )
    sets: dict[str, list[Problem]] = {}
    for problem in finished_problems(out).values():
        sets.setdefault(problem.set, []).append(problem)
    return Evaluation(name=str(_identity(out).get(NAME)), sets=sets)


def _identity(out: Path) -> dict[str, str]:
    """Read what is evaluated in a folder."""
    path = out / IDENTITY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} must say what is evaluated there, got no whole JSON; choose another folder")
    return found
