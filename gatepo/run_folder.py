"""What lies in a run's folder, by name, as far as a process without torch has to know it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from gatepo.errors import UserError
from gatepo.targets import OWN

RECORD, WORDS = "run.json", "words"  # gatepo/record.py writes them
REMARKS = "remarks"  # of a summary: that the run learned nothing, or ran away
CONFIG, SUMMARY, CHECKPOINTS = "config.yaml", "summary.json", "checkpoints"
MODEL, ADAPTER = "model", "adapter"  # what was trained, whole, and the part that learned on its own
BASIS = "basis.json"  # of a checkpoint: what it rests on (gatepo/resume.py)
ROWS = METRICS, COMPLETIONS = "metrics.jsonl", "completions.jsonl"
_BEFORE_UPDATES = (".claim", "train.log", RECORD, "tracking.json", "wandb", CONFIG, *ROWS)
"""What a run has before its first update."""


HEAD, END = "# the settings of a run, whole where the last line says so\n", "# end\n"


def marked(text: str) -> str:
    """Mark both ends of a ``config.yaml``, by which one that was cut off is known."""
    return f"{HEAD}{text}{END}"


def is_whole(text: str) -> bool:
    """Say whether a ``config.yaml`` has its end; one of the version before has no mark, and ends with a line."""
    return text.endswith(END if text.startswith(HEAD) else "\n")


def is_finished(run: Path) -> bool:
    """Say whether the run came to its end: its summary is written last."""
    return (run / SUMMARY).is_file()


def found(run: Path) -> list[Path]:
    """Give the whole checkpoints of a run, oldest first."""
    return sorted(path for path in (run / CHECKPOINTS).glob("update-*") if path.suffix == "")


def remove_if_nothing_ran(run: Path) -> None:
    """Remove the folder of a run that was refused, and those above it that it alone was in; it holds no update."""
    known = [path for path in run.iterdir() if path.name in _BEFORE_UPDATES or path.match("job-*.yaml")]
    if set(known) != set(run.iterdir()) or any((run / name).stat().st_size for name in ROWS if (run / name).exists()):
        return
    shutil.rmtree(run)
    for above in list(run.resolve().parents)[:2]:
        if above == Path.cwd() or any(above.iterdir()):
            return
        above.rmdir()


def how_to_go_on(run: Path) -> str:
    """Say how an interrupted run goes on; nothing where it has finished."""
    if is_finished(run):
        return ""
    if not found(run):
        return "there is no checkpoint to go on from, start it again"
    named = re.findall(r"\b_target_: *(\S+)", (run / CONFIG).read_text(encoding="utf-8"))
    trust = " trust=true" if set(named) - set(OWN) else ""
    return f"go on with: python -m gatepo.train resume={run}{trust}"


def starts(folder: Path) -> list[dict[str, Any]]:
    """Read the starts of a run, oldest first; none where nothing wrote them down.

    Raises:
      UserError: the file is no such list.
    """
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    match found:
        case {"starts": list(starts)} if all(isinstance(start, dict) for start in starts):
            return starts
    raise UserError(f"{path} must be the starts of a run, got other or damaged content; move it away")


def words(folder: Path) -> list[str]:
    """Give the words of the command line with which a run began; none where nothing wrote them down.

    Raises:
      UserError: ``run.json`` is damaged.
    """
    begun = starts(folder)
    return [str(word) for word in begun[0].get(WORDS, ())] if begun else []
