"""Which settings differ between runs, and which runs are the same but for the seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gatepo.report import gates
from gatepo.report.runs import CODE, Run

# What changes no number of a run: where it lies, what it keeps, what watches it.
SILENT = ("seed", "resume", "trust", "force", "tracker", "checkpoint", "evaluate.every")
LONG = 40
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that are the same but for the seed."""

    parts: tuple[str, ...]  # of its label: only what differs from other groups
    settings: dict[str, Any]  # those that differ, by key
    runs: tuple[int, ...]  # places in the list of all runs
    gate: str

    @property
    def label(self) -> str:
        """Its name, in which parts are set off by commas."""
        return ", ".join(self.parts)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Put runs that are the same but for the seed together: by gate, then by the other settings that differ."""
    flat = [run.settings for run in runs]
    keys = differing(runs)
    members: dict[tuple[str, ...], list[int]] = {}
    for place, run in enumerate(runs):
        members.setdefault(_words(run, flat[place], keys), []).append(place)
    found = [
        Group(
            parts=parts,
            settings={key: flat[places[0]][key] for key in keys if key in flat[places[0]]},
            runs=tuple(places),
            gate=gates.name_of(runs[places[0]]),
        )
        for parts, places in members.items()
    ]
    return sorted(found, key=_order)


def differing(runs: Sequence[Run]) -> list[str]:
    """List the keys of settings that are not the same in all runs, but for those that follow from an option's name."""
    flat = [run.settings for run in runs]
    keys = [key for key in dict.fromkeys(key for settings in flat for key in settings) if not _is_silent(key)]
    varied = [key for key in keys if len({_text(settings.get(key, _ABSENT)) for settings in flat}) > 1]
    return [key for key in varied if not _follows(key, varied, flat)]


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Give the settings that all runs have alike."""
    first, *others = [run.settings for run in runs]
    same = {key: value for key, value in first.items() if all(other.get(key, _ABSENT) == value for other in others)}
    return {key: value for key, value in same.items() if not _is_silent(key)}


def label(run: Run, runs: Sequence[Run]) -> str:
    """Name a run by its settings that are not the same in all runs, and by its seed where those differ."""
    words = ", ".join(_words(run, run.settings, differing(runs)))
    several = len({repr(other.seed) for other in runs}) > 1
    return f"{words}, seed {run.seed}" if several else words


def _is_silent(key: str) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in SILENT)


def _follows(key: str, varied: list[str], flat: list[dict[str, Any]]) -> bool:
    """Say whether a setting of an option is the same wherever the option's name is: the name says it then."""
    if key.startswith(CODE):  # the path in an option's place says it, as long as one body is all that it had
        return len({settings[key] for settings in flat if key in settings}) == 1
    parts = key.split(".")
    above = [".".join(parts[:end]) for end in range(1, len(parts))]  # it may be a part of an option's part
    return any(_follows_name(key, [f"{of}.name", f"{of}._target_"], varied, flat) for of in above)


def _follows_name(key: str, names: list[str], varied: list[str], flat: list[dict[str, Any]]) -> bool:
    if key in names or not any(name in varied for name in names):
        return False
    pairs = {(*(_text(settings.get(name)) for name in names), _text(settings.get(key, _ABSENT))) for settings in flat}
    return len({pair[:2] for pair in pairs}) == len(pairs)


def _words(run: Run, settings: dict[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Say what differs; gate and tau where nothing does."""
    keys = [key for key in keys if key in settings] or ["gate.name", "gate._target_", "tau.pos", "tau.neg"]
    found: list[str] = []
    for key in keys:
        value = settings.get(key, _ABSENT)
        if value is _ABSENT or (key.startswith("tau.") and not gates.takes_tau(run)):
            continue
        if key in ("gate.name", "gate._target_"):
            found.append(str(value))
        elif "tau.pos" in keys and (key == "tau.neg" or (key == "tau.name" and _is_a_pair(settings))):
            continue
        elif key == "tau.pos":
            both = f"/{_text(settings['tau.neg'])}" if settings.get("tau.neg") is not None else ""
            found.append(f"tau {_text(value)}{both}")
        else:
            found.append(f"{key.removesuffix('.name').removesuffix('._target_')}={_text(value)}")
    return tuple(found) or (gates.name_of(run),)


def _is_a_pair(settings: dict[str, Any]) -> bool:
    """Say whether tau is two numbers and nothing else, which then name it."""
    return {key for key in settings if key.startswith("tau.")} <= {"tau.name", "tau.pos", "tau.neg"}


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if len(text) > LONG:
        text = "..." + (PurePath(text).name if "/" in text else text)[-LONG:]
    return text


def _order(group: Group) -> tuple[Any, ...]:
    """By the gate's place in the library, then by the values of all that differs, numbers as such."""
    values = [value for key, value in group.settings.items() if key != "gate.name"]
    numbers = [(0, value, "") if isinstance(value, int | float) else (1, math.inf, str(value)) for value in values]
    return gates.rank(group.gate), group.gate, numbers
