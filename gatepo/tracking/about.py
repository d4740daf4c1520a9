"""What a run is called where several are looked at: name, group, tags and notes, kept from its first start on."""

from __future__ import annotations

import json
import secrets
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatepo.durable import write_text
from gatepo.errors import UserError

FILE = "tracking.json"
LONGEST_NAME, LONGEST_TAG = 128, 64  # characters, what W&B takes
PRESETS = ("experiment", "method")  # groups whose choice is a tag
_NO_NAME = ("tracker", "checkpoint", "evaluate", "hydra", "resume", "trust", "force", "threads", "devices", "source")
_GRID, _ABOVE = "multirun.yaml", 3  # what Hydra leaves in a multirun's folder, so far above a job's at the most
_BEFORE = "wandb-id"  # where a run of the version before has its id


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """How a run is found again among others."""

    id: str  # eight digits
    name: str  # what was typed, without what leaves the figures as they are
    group: str | None  # of the multirun
    tags: list[str]
    notes: str

    @property
    def unique_name(self) -> str:
        """The name where two runs must not have the same."""
        return f"{self.name} {self.id}"


def keep(folder: Path, config: Mapping[str, Any], notes: str, words: Sequence[str] = ()) -> About:
    """Give what a run is called; that of one which goes on stays as it was.

    Args:
      folder: of the run.
      config: the resolved config as nested dicts.
      notes: lines about the settings.
      words: of the command line, that choose them.
    Raises:
      UserError: ``tracking.json`` is damaged.
    """
    known = read(folder)
    if known is not None:
        return known
    old = folder / _BEFORE
    made = About(
        id=old.read_text(encoding="utf-8").strip() if old.is_file() else secrets.token_hex(4),
        name=_name(words) or folder.name,
        group=group_of(folder),
        tags=_tags(words, config),
        notes=notes,
    )
    write_text(folder / FILE, json.dumps(asdict(made), indent=2) + "\n")
    return made


def read(folder: Path) -> About | None:
    """Give what a run is called; None where nothing has followed it.

    Raises:
      UserError: ``tracking.json`` is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return About(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} must be what a run is called, got other or damaged content; move it away") from error


def group_of(folder: Path) -> str | None:
    """Name the multirun that a run is a job of, by the last two parts of its folder; None of a single run."""
    above = list(folder.resolve().parents)[:_ABOVE]
    grid = next((parent for parent in above if (parent / _GRID).is_file()), None)
    return None if grid is None else "-".join(grid.parts[-2:]).lstrip("/-")


def _name(words: Sequence[str]) -> str:
    """Put the words together that decide what is learned.

    >>> _name(["gate=arctan", "tau.pos=10", "tracker=wandb", "+experiment=paper/erf", "resume=x"])
    'gate=arctan tau.pos=10 experiment=paper/erf'
    """
    bare = [word.lstrip("+~") for word in words]
    kept = [word for word in bare if word.split("=")[0].split(".")[0].split("@")[0].split("/")[0] not in _NO_NAME]
    return textwrap.shorten(" ".join(kept), LONGEST_NAME, placeholder=" ...")


def _tags(words: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    presets = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] in PRESETS]
    gate, model = config["gate"], str(config["model"]["path"]).rstrip("/").rpartition("/")[2]
    found = [*presets, str(gate.get("name") or gate.get("_target_")), model, *config["data"]["sources"]]
    return [tag[:LONGEST_TAG] for tag in dict.fromkeys(found) if tag]
