"""Files and data sets of one's own on the command line, as short words for sources and their settings.

    'data=[train.jsonl,gsm8k,hub:ORG/NAME,test:held_out.csv]'

means ``data=gsm8k``, one more source ``train`` with ``path=train.jsonl``, one ``NAME`` with ``hub=ORG/NAME``, and the
evaluation set ``held_out``; each has its settings below ``data.sources.NAME`` or ``data.evaluation.NAME``, as any
source has. ``data.system_file=FILE`` means ``data.system=${prompt:FILE}``.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from gatepo.errors import UserError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
SOURCES, EVALUATION = "sources", "evaluation"
HUB, TEST = "hub:", "test:"
KEY, SYSTEM, SYSTEM_FILE = "data=", "data.system=", "data.system_file="
TAGS = f"{SYSTEM}${{own_system:tags}}"  # as the presets of conf/data have it


def spelled_out(words: list[str], part: str = SOURCES) -> list[str]:
    """Replace the short words by those that they stand for.

    Args:
      words: of the command line.
      part: of the data to which a file belongs that has no ``test:`` before it.
    Raises:
      UserError: two entries have one name, or files stand side by side without brackets.
    """
    found: list[str] = []
    for word in words:
        if word.startswith(SYSTEM_FILE):
            found.append(SYSTEM + _quoted('${prompt:"' + word.removeprefix(SYSTEM_FILE) + '"}'))
        elif word.startswith(KEY):
            found += _sources(word, part, asks=any(other.startswith((SYSTEM, SYSTEM_FILE)) for other in words))
        else:
            found.append(word)
    return found


def _sources(word: str, part: str, asks: bool) -> list[str]:
    """Spell out ``data=``; ``asks`` says whether another word sets the system prompt."""
    value = word.removeprefix(KEY).strip()
    listed = value.startswith("[")
    entries = [entry.strip().strip("'\"") for entry in value.strip("[]").split(",")]
    own = [entry for entry in entries if _is_own(entry)]
    if not own:
        return [word]
    if len(entries) > 1 and not listed:
        raise UserError(
            f"data must be a list in brackets to mix, got {value}; type 'data=[{value}]', or, to try one after the "
            f"other, -m data=jsonl data.path={value}"
        )
    presets = [entry for entry in entries if entry not in own]
    found = [f"{KEY}[{','.join(presets)}]"] if presets else [f"{KEY}own", *([] if asks else [TAGS])]
    named: dict[str, str] = {}
    for entry in own:
        key, setting = _source(entry, part)
        if key in named:
            raise UserError(
                f"data must have entries with names of their own, got {named[key]} and {entry}, both {key}; rename one"
            )
        named[key] = entry
        found += [f"+source@{key}=rows", f"{key}.{setting}"]
    return found


def _is_own(entry: str) -> bool:
    return entry.startswith((HUB, TEST)) or entry.lower().endswith(SUFFIXES)


def _source(entry: str, part: str) -> tuple[str, str]:
    """Give the key of an entry's source, and the setting that says where its rows are."""
    part = EVALUATION if entry.startswith(TEST) else part
    place = entry.removeprefix(TEST)
    hub = place.startswith(HUB)
    place = place.removeprefix(HUB)
    name = re.sub(r"\W", "_", place.rpartition("/")[2] if hub else PurePath(place).stem, flags=re.ASCII)
    name = name if name[:1].isalpha() else f"rows_{name}"
    return f"data.{part}.{name}", f"{'hub' if hub else 'path'}={_quoted(place)}"


def _quoted(text: str) -> str:
    """Put a text in the quotes that Hydra reads as one text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
