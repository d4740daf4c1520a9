"""The files, commands and tables of a page of docs/, as they stand there."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import REPO

if TYPE_CHECKING:
    import pytest

    from gatepo.schema import TrainConfig

FILE = re.compile(r"`([\w.-]+\.\w+)`[^`\n]*:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"`([\w.]+)`(?: \(([^)]*)\))?")
START = "python -m gatepo."


def page(name: str) -> str:
    """The text of docs/NAME.md."""
    return (REPO / "docs" / f"{name}.md").read_text(encoding="utf-8")


def lines(name: str) -> list[str]:
    """What is typed on the page, each command in one line."""
    text = "\n".join(COMMANDS.findall(page(name))).replace("\\\n", " ")
    return [line for line in text.splitlines() if line]


def commands(name: str, of: str = "train") -> list[str]:
    """The words behind ``python -m gatepo.OF`` of each command of the page."""
    return [line.removeprefix(START + of + " ") for line in lines(name) if line.startswith(START + of + " ")]


def write_files(name: str, folder: Path) -> list[str]:
    """Write the files that the page shows, and give their names."""
    found = FILE.findall(page(name))
    for file, text in found:
        (folder / file).write_text(text, encoding="utf-8")
    return [file for file, _ in found]


def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import the page's files in ``folder``, and no other page's of the same name before them."""
    monkeypatch.syspath_prepend(folder)
    for file in folder.glob("*.py"):
        monkeypatch.delitem(sys.modules, file.stem, raising=False)


def settings(words: str) -> TrainConfig:
    """What ``python -m gatepo.train WORDS`` composes; of a grid its first."""
    from composed import typed  # not in .venv-verl, which has less than gatepo wants

    from gatepo.overrides import prepared

    typed_words = shlex.split(words)
    first = [word for word in typed_words if word != "-m" and not word.startswith(("jobs=", "hydra."))]
    if "-m" in typed_words:
        first = [word if "[" in word else word.split(",")[0] for word in first]
    return typed(*prepared(first))


def table(name: str) -> list[list[str]]:
    """The rows of the page's table of settings."""
    found = [line.strip("| ").split(" | ") for line in page(name).split("## Settings")[1].splitlines() if "| " in line]
    return [row + [""] * (3 - len(row)) for row in found[2:]]


def theirs(name: str) -> list[tuple[str, str]]:
    """Each setting of the other's with what stands in brackets behind it; nothing where nothing does."""
    return [found for row in table(name) for found in NAMED.findall(row[0]) if row[0] != "none"]


def value(text: str) -> Any:
    """What stands in the brackets, up to a colon."""
    try:
        return ast.literal_eval(text.split(":")[0])
    except (ValueError, SyntaxError):
        return text
