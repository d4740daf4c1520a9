"""Rows of questions and answers, from the hub or from local JSONL.

Opening a source looks at every row once and remembers where it lies, eight bytes each; what it says is read again when
it is asked for. So neither 103,000 rows nor long solutions beside them stay in memory.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

from gatepo import tiny
from gatepo.errors import UserError
from gatepo.rewards.extraction import boxed

HEAD = 1 << 13  # bytes of a line that are looked at before all of it is
OFFSET_BITS = 44  # of a key's place in its file; what is above them numbers the files


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
    revision: str | None = None  # of the hub's data set; None: its newest
    solution: str | None = None  # field whose last \boxed is the gold answer of a row without the answer field


class Rows(Sequence[Row]):
    """The rows of a source that are in use, by number; each is read anew.

    Args:
      source: where they come from.
      keep: says of each row whether it is in use.
    Raises:
      UserError: a row is malformed (file and line are named), or none is left.
    """

    def __init__(self, source: Source, keep: Callable[[Row], bool]) -> None:
        self._source = source
        self._records = _records(source)
        self._keys = array("Q")
        self.unanswered = 0  # rows without a gold answer, left out
        self.dropped = 0  # rows that ``keep`` refused
        for key, where, record in self._records.scan():
            row = _row(source, where, record)
            if row is None:
                self.unanswered += 1
            elif keep(row):
                self._keys.append(key)
            else:
                self.dropped += 1
        if not self._keys:
            where = ", ".join(source.paths or (str(source.hub),))
            raise UserError(f"data source {source.name}: {where} has no rows; give data.path=FILE.jsonl")

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._read(key) for key in self._keys[index]]
        return self._read(self._keys[index])

    def counts(self) -> dict[str, int]:
        """Rows in use, without a gold answer, and dropped."""
        return {"rows": len(self), "unanswered": self.unanswered, "dropped": self.dropped}

    def describe(self) -> str:
        """The same for a person."""
        total = len(self) + self.unanswered + self.dropped
        parts = [f"{len(self)} of {total} rows"]
        if self.unanswered:
            parts.append(f"{self.unanswered} without a gold answer left out")
        if self.dropped:
            parts.append(f"{self.dropped} ({self.dropped / total:.2%}) left out because an evaluation set holds them")
        return ", ".join(parts)

    def _read(self, key: int) -> Row:
        row = _row(self._source, f"data source {self._source.name}", self._records.record(key))
        assert row is not None, "a row that had an answer has lost it"
        return row


def read(source: Source, keep: Callable[[Row], bool] = lambda row: True) -> Rows:
    """The rows of a source; those whose answer is null, and those that ``keep`` refuses, are left out and counted.

    Raises:
      UserError: the path is missing, empty or malformed (file and line are named), a field is missing, or the hub has
        no such data set.
    """
    return Rows(source, keep)


class Records(Protocol):
    """Where rows lie."""

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """(key, where it is in words, record) of each."""
        ...

    def record(self, key: int) -> Any:
        """The record of a key."""
        ...


class JsonLines:
    """Lines of JSONL files. A key is the file's number and the line's offset in bytes.

    Args:
      name: of the source.
      paths: its files.
      wanted: fields that suffice where a line has them; what stands behind them in a long line is not parsed.
    """

    def __init__(self, name: str, paths: Sequence[Path], wanted: frozenset[str]) -> None:
        self._name, self._paths, self._wanted = name, paths, wanted

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """See :class:`Records`."""
        for number, path in enumerate(self._paths):
            key = number << OFFSET_BITS
            try:
                with path.open("rb", buffering=1 << 18) as file:
                    for line_number, line in enumerate(file, 1):
                        if not line.isspace():
                            yield key, f"{path}:{line_number}", self._parsed(f"{path}:{line_number}", line)
                        key += len(line)
            except OSError as error:
                raise UserError(
                    f"data source {self._name}: cannot read {path} ({error.strerror}); give data.path=FILE.jsonl"
                ) from error

    def record(self, key: int) -> Any:
        """See :class:`Records`. The file is opened anew: what is open would be shared between forked processes."""
        path, offset = self._paths[key >> OFFSET_BITS], key & ((1 << OFFSET_BITS) - 1)
        with path.open("rb") as file:
            file.seek(offset)
            return self._parsed(f"{path}, byte {offset}", file.readline())

    def _parsed(self, where: str, line: bytes) -> Any:
        if len(line) > HEAD and line.rstrip().endswith(b"}"):
            found = _first_fields(line[:HEAD], self._wanted)
            if found is not None:
                return found
        return _parsed(where, line)


class HubRecords:
    """Rows of a data set on the hub, which ``datasets`` maps into memory from its cache. A key is a row's number."""

    def __init__(self, source: Source) -> None:
        self._name = f"{source.hub}[{source.split}]"
        rows = _load(source)
        wanted = (source.question, source.answer, source.solution)
        columns = [name for name in rows.column_names if name in wanted]
        self._rows = rows.select_columns(columns or rows.column_names)

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """See :class:`Records`."""
        for number, record in enumerate(self._rows):
            yield number, f"{self._name} row {number}", record

    def record(self, key: int) -> Any:
        """See :class:`Records`."""
        return self._rows[key]


def _records(source: Source) -> Records:
    if source.paths is None:
        return HubRecords(source)
    paths = [Path(tiny.locate(path)) for path in source.paths]
    return JsonLines(source.name, paths, frozenset((source.question, source.answer)))


def _row(source: Source, where: str, record: Any) -> Row | None:
    """None where the gold answer is null."""
    if not isinstance(record, dict) or source.question not in record:
        raise _without(source, source.question, where, record)
    if record[source.question] is None:
        raise UserError(f"{where}: {source.question} must be a text, got null; mend the row, or take it out")
    if source.answer in record:
        gold = record[source.answer]
    elif source.solution in record:
        gold = boxed(str(record[source.solution]))
    else:
        raise _without(source, source.answer, where, record)
    if gold is None:
        return None
    answer = str(gold)
    if source.answer_marker is not None:
        _, marker, answer = answer.rpartition(source.answer_marker)
        if not marker:
            raise UserError(f"{where}: {source.answer!r} must hold {source.answer_marker!r} before the gold answer")
    return Row(question=str(record[source.question]), answer=answer.strip())


def _without(source: Source, field: str, where: str, record: Any) -> UserError:
    known = ", ".join(record) if isinstance(record, dict) else type(record).__name__
    return UserError(f"{where}: must have the field {field!r}, got {known}; set data.sources.{source.name}")


def _parsed(where: str, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: must be UTF-8, got {error.reason} at byte {error.start} of the line") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: must be one JSON object a line, got {error.msg}") from error


_FIELD = re.compile(r'\s*[{,]\s*"([^"\\]*)"\s*:\s*')
_VALUE_END = re.compile(r"\s*(?=[,}])")
_DECODER = json.JSONDecoder()


def _first_fields(head: bytes, wanted: frozenset[str]) -> dict[str, Any] | None:
    """The wanted fields of the object that ``head`` is the beginning of; None where it does not show them all."""
    found: dict[str, Any] = {}
    try:
        text = head.decode("utf-8")
        position = 0
        while not wanted <= found.keys():
            field = _FIELD.match(text, position)
            if field is None or (field[0].lstrip()[0] == "{") != (position == 0):
                return None
            value, position = _DECODER.raw_decode(text, field.end())
            end = _VALUE_END.match(text, position)
            if end is None:  # the value may go on behind the head
                return None
            found[field[1]], position = value, end.end()
    except ValueError:  # cut off in a character or in a value, or malformed: the whole line tells which
        return None
    return found


def _load(source: Source) -> Any:
    from datasets import load_dataset  # slow to import, and not needed for local files

    try:
        return load_dataset(source.hub, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # whatever the hub client raises, offline or not: the user is told which set and why
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data source {source.name}: cannot load {source.hub} from the hub ({type(error).__name__}: {reason}); "
            "give data.path=FILE.jsonl"
        ) from error
