"""An evaluation's folder: who may write into it, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    reward: dict[str, str] = field(default_factory=dict)  # what its identity says of how it was graded


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
            other = (
                "other weights (the run was trained further, or it is another model)"
                if key == "weights"
                else f"{key}={before.get(key)} in place of {value}"
            )
            raise UserError(
                f"out={out} must hold this same evaluation, got one with {other}; choose another folder with out=FOLDER"
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
    identity = _identity(out)
    return Evaluation(name=str(identity.get(NAME)), sets=sets, reward=_reward(identity))


def require_comparable(out: str, other: Evaluation, identity: Mapping[str, str]) -> None:
    """Refuse to compare what different rewards gave, before anything is sampled. Ours may read answers otherwise.

    Raises:
      UserError: which they are.
    """
    ours = _reward(identity)
    if ours != other.reward and OWN in {*ours, *other.reward}:
        raise UserError(
            f"against and beside must hold the same reward, got {_words(other.reward)} in {out} and {_words(ours)} "
            "here; evaluate one of them with the other's reward, in a folder of its own (out=FOLDER)"
        )


OWN = "reward"  # in the identity where a reward of the user's own stands in the place of ours


def _reward(identity: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in identity.items() if key == OWN or key.startswith(f"{OWN}.")}


def _words(reward: Mapping[str, str]) -> str:
    if OWN not in reward:
        return "graded answers"
    return " ".join([reward[OWN], *(f"{key}={value}" for key, value in reward.items() if key != OWN)])


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
