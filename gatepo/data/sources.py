"""Rows of questions and answers, from the hub or from local JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatepo import tiny
from gatepo.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question and its gold answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where rows come from and which fields hold them. ``paths`` win over the hub."""

    name: str
    paths: tuple[str, ...] | None  # JSONL files, or ``tiny:NAME``
    hub: str | None  # data set on the hub, loaded by ``datasets``
    subset: str | None
    split: str
    question: str  # field name
    answer: str  # field name
    answer_marker: str | None  # the gold answer is what follows its last occurrence (GSM8K: "####")


def read(source: Source) -> list[Row]:
    """All rows of a source; rows whose answer is null are left out.

    Raises:
      UserError: the path is missing, empty or malformed (file and line are named), a field is missing, or the hub has
        no such data set.
    """
    rows = _local(source) if source.paths is not None else _hub(source)
    found = [row for where, record in rows if (row := _row(source, where, record)) is not None]
    if not found:
        where = ", ".join(source.paths or (str(source.hub),))
        raise UserError(f"data source {source.name}: {where} has no rows; give data.path=FILE.jsonl")
    return found


def _row(source: Source, where: str, record: Any) -> Row | None:
    for field in (source.question, source.answer):
        if not isinstance(record, dict) or field not in record:
            known = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise UserError(f"{where}: must have the field {field!r}, got {known}; set data.sources.{source.name}")
    if record[source.answer] is None:
        return None
    answer = str(record[source.answer])
    if source.answer_marker is not None:
        _, marker, answer = answer.rpartition(source.answer_marker)
        if not marker:
            raise UserError(f"{where}: {source.answer!r} must hold {source.answer_marker!r} before the gold answer")
    return Row(question=str(record[source.question]), answer=answer.strip())


def _local(source: Source) -> Iterable[tuple[str, Any]]:
    for path in source.paths or ():
        yield from _lines(source.name, Path(tiny.locate(path)))


def _lines(name: str, path: Path) -> Iterable[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also cut at U+2028
    except OSError as error:
        raise UserError(
            f"data source {name}: cannot read {path} ({error.strerror}); give data.path=FILE.jsonl"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8, got {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: must be one JSON object a line, got {error.msg}") from error


def _hub(source: Source) -> Iterable[tuple[str, Any]]:
    from datasets import load_dataset  # slow to import, and not needed for local files

    try:
        rows = load_dataset(source.hub, source.subset, split=source.split)
    except Exception as error:  # whatever the hub client raises, offline or not: the user is told which set and why
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data source {source.name}: cannot load {source.hub} from the hub ({type(error).__name__}: {reason}); "
            "give data.path=FILE.jsonl"
        ) from error
    for number, record in enumerate(rows):
        yield f"{source.hub}[{source.split}] row {number}", record
