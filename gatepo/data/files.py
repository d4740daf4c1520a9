"""Rows of local files: JSONL, CSV and Parquet, by what their names end in.

A key is where a row lies, so that it can be read again: the file's number and an offset in bytes, or a row's number.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from gatepo.errors import UserError

HEAD = 1 << 13  # bytes of a line that are looked at before all of it is
OFFSET_BITS = 44  # of a key's place in its file; what is above them numbers the files
CSV, PARQUET = ".csv", ".parquet"
WIDEST = 1 << 30  # characters of a cell


class Records(Protocol):
    """Where the rows of a source lie."""

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """Go over all of them: (key, where it is in words, record); of the record at least what a row is made of."""
        ...

    def record(self, key: int) -> Any:
        """Read the whole record of a key."""
        ...


def records_of(name: str, paths: Sequence[Path], wanted: frozenset[str]) -> Records:
    """Open the files of a source, which are all of one kind.

    Args:
      name: of the source.
      paths: its files; what is neither .csv nor .parquet is JSONL.
      wanted: fields that suffice to make a row.
    Raises:
      UserError: the files are of several kinds, or cannot be read.
    """
    kinds = {path.suffix.lower() if path.suffix.lower() in (CSV, PARQUET) else ".jsonl" for path in paths}
    if len(kinds) > 1:
        raise UserError(f"data source {name} must have files of one kind, got {', '.join(map(str, paths))}; split it")
    (kind,) = kinds
    if kind == PARQUET:
        return TableRecords(", ".join(map(str, paths)), _parquet(name, paths), wanted)
    return CsvRecords(name, paths) if kind == CSV else JsonlRecords(name, paths, wanted)


class JsonlRecords:
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
                raise _unreadable(self._name, path, error) from error

    def record(self, key: int) -> Any:
        """See :class:`Records`. The file is opened anew: what is open would be shared between forked processes."""
        path, offset = self._paths[key >> OFFSET_BITS], key & ((1 << OFFSET_BITS) - 1)
        with path.open("rb") as file:
            file.seek(offset)
            return _parsed(f"{path}, byte {offset}", file.readline())

    def _parsed(self, where: str, line: bytes) -> Any:
        if len(line) > HEAD and line.rstrip().endswith(b"}"):
            found = _first_fields(line[:HEAD], self._wanted)
            if found is not None:
                return found
        return _parsed(where, line)


class CsvRecords:
    """Rows of CSV files with a line of names; all values are texts, and an empty cell is null.

    A key is as in :class:`JsonlRecords`; a row may go over several lines, in quotes.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self._name, self._paths = name, paths
        self._names: list[list[str]] = []  # of the columns, by file
        csv.field_size_limit(WIDEST)

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """See :class:`Records`."""
        for number, path in enumerate(self._paths):
            try:
                with path.open("rb", buffering=1 << 18) as file:
                    yield from self._of_file(number, path, file)
            except OSError as error:
                raise _unreadable(self._name, path, error) from error

    def record(self, key: int) -> Any:
        """See :class:`Records`."""
        number, offset = key >> OFFSET_BITS, key & ((1 << OFFSET_BITS) - 1)
        with self._paths[number].open("rb") as file:
            file.seek(offset)
            cells = next(csv.reader(_decoded(str(self._paths[number]), file, [offset, 0]), strict=True))
        return _named(str(self._paths[number]), self._names[number], cells)

    def _of_file(self, number: int, path: Path, file: Any) -> Iterator[tuple[int, str, Any]]:
        read = [0, 0]  # bytes and lines so far: the reader takes no line before it needs it
        rows = csv.reader(_decoded(str(path), file, read), strict=True)
        names = next(rows, [])
        self._names[number:] = [names]
        while True:
            offset, where = read[0], f"{path}:{read[1] + 1}"
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise UserError(f"{where}: must be a row of CSV, got {error}; correct the row") from error
            if cells is None:
                return
            if cells:
                yield (number << OFFSET_BITS) + offset, where, _named(where, names, cells)


class TableRecords:
    """Rows of a Parquet file or of a data set on the hub, which ``datasets`` maps into memory from its cache.

    A key is a row's number.

    Args:
      label: of the table, for messages.
      table: what ``datasets`` has loaded.
      wanted: columns that suffice to make a row, where the table has them.
    """

    def __init__(self, label: str, table: Any, wanted: frozenset[str]) -> None:
        self._label, self._rows = label, table
        columns = [column for column in table.column_names if column in wanted]
        whole = len(columns) < len(wanted)  # a message then lists all that there are
        self._wanted = table if whole else table.select_columns(columns)

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        """See :class:`Records`."""
        for number, record in enumerate(self._wanted):
            yield number, f"{self._label} row {number}", record

    def record(self, key: int) -> Any:
        """See :class:`Records`."""
        return self._rows[key]


def _unreadable(name: str, path: Path, error: OSError) -> UserError:
    return UserError(f"data source {name}: cannot read {path} ({error.strerror}); check its path")


def _decoded(where: str, file: Any, read: list[int]) -> Iterator[str]:
    """Give the lines of a file as text, and count its bytes and lines in ``read``; a byte order mark is none of it."""
    for line in file:
        first, read[0], read[1] = read[0] == 0, read[0] + len(line), read[1] + 1
        yield _text(f"{where}:{read[1]}", line).removeprefix("\ufeff" if first else "")


def _named(where: str, names: list[str], cells: list[str]) -> dict[str, str | None]:
    if len(cells) != len(names):
        raise UserError(
            f"{where}: must have {len(names)} cells, as the first line has ({', '.join(names)}), got {len(cells)}; "
            "correct the row, or put quotes around texts with commas"
        )
    return {name: cell if cell != "" else None for name, cell in zip(names, cells, strict=True)}


def _parquet(name: str, paths: Sequence[Path]) -> Any:
    from datasets import load_dataset  # slow to import, and not needed for other files

    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise _unreadable(name, path, error) from error
    try:
        return load_dataset("parquet", data_files=[str(path) for path in paths], split="train")
    except Exception as error:  # whatever the reader of Parquet raises
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        files = ", ".join(map(str, paths))
        raise UserError(f"data source {name}: {files} must be Parquet, got {reason}; make it anew") from error


def _text(where: str, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: must be UTF-8, got {error.reason} at byte {error.start} of the line") from error


def _parsed(where: str, line: bytes) -> Any:
    try:
        return json.loads(_text(where, line))
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: must be one JSON object a line, got {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, or brackets that are too deep
        reason = str(error).partition(";")[0]
        raise UserError(
            f"{where}: must be JSON that can be read, got {reason}; correct the row, or take it out"
        ) from error


_FIELD = re.compile(r'\s*[{,]\s*"([^"\\]*)"\s*:\s*')
_VALUE_END = re.compile(r"\s*(?=[,}])")
_DECODER = json.JSONDecoder()


def _first_fields(head: bytes, wanted: frozenset[str]) -> dict[str, Any] | None:
    """Read the wanted fields of the object that begins with ``head``; None where it does not show them all."""
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
    except (ValueError, RecursionError):  # cut off in a character or a value, or malformed: the whole line shows which
        return None
    return found
