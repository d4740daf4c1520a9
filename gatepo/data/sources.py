"""Rows of questions and answers, from the hub or from local files (JSONL, CSV, Parquet).

Opening a source looks at every row once and remembers where it lies, eight bytes each; what it says is read again when
it is asked for. So neither 103,000 rows nor long solutions beside them stay in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from gatepo import hub, tiny
from gatepo.data import chat
from gatepo.data.files import PARQUET, Records, TableRecords, records_of
from gatepo.data.fingerprint import Fingerprint
from gatepo.errors import UserError
from gatepo.rewards.extraction import boxed
from gatepo.settings import POSITIVE, name_of, option, section, setting

QUESTION, ANSWER = "question", "answer"  # the fields that are read where no others are named

MARKER = "####"  # stands before the answer in GSM8K's worked solutions


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question and its gold answer."""

    question: str
    answer: str
    messages: chat.Messages = ()  # in the place of a question that is one text
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)  # all fields of the row, as they are


@section("source")
class SourceOption:
    """What rows say, whatever they come from. A source from outside extends this by ``rows``."""

    weight: float = setting("The share of the mix.", default=1.0, rule=POSITIVE, remedy="1 is an equal share")
    question: str = setting("This field holds the question: a text, or messages (role, content).", default=QUESTION)
    answer: str | None = setting(
        "This field holds the gold answer; of messages it is the last, the assistant's. null: there is none.",
        default=ANSWER,
    )
    answer_marker: str | None = setting("The gold answer follows the last of this text (e.g. ####).", default=None)
    solution: str | None = setting("The last \\boxed of this field stands in for a missing answer.", default=None)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Give all rows, as a source from outside does."""
        raise NotImplementedError

    def records(self, name: str, paths: tuple[str, ...] | None) -> Records:
        """Open the source.

        Args:
          name: of the source, for messages.
          paths: the files that ``data.path`` holds for it; None without such a path.
        """
        return _InMemory(name, self.rows())

    def place(self, paths: tuple[str, ...] | None) -> str:
        """Say where the rows come from, for messages."""
        return name_of(self)


@option("source", "own", named=False)
class Source(SourceOption):
    """Files (JSONL, .csv or .parquet), or a data set on the hub."""

    path: str | None = setting("The file of this source; it wins over data.path and the hub.", default=None)
    file: str | None = setting("The pattern of its files below data.path, where that is a folder.", default=None)
    hub: str | None = setting("The data set on the hub, or tiny:NAME for an embedded one.", default=None)
    subset: str | None = setting("The name of its configuration on the hub.", default=None)
    revision: str | None = setting("Its commit on the hub; null takes the newest.", default=None)
    split: str = setting("Its split on the hub.", default="train")

    def records(self, name: str, paths: tuple[str, ...] | None) -> Records:
        """See :class:`SourceOption`."""
        paths = self._paths(paths)
        if paths is None:
            return TableRecords(f"{self.hub}[{self.split}]", _load(name, self), self._fields() | self._instead())
        return records_of(name, [Path(tiny.locate(path)) for path in paths], self._fields())

    def place(self, paths: tuple[str, ...] | None) -> str:
        """See :class:`SourceOption`."""
        return ", ".join(self._paths(paths) or (str(self.hub),))

    def is_remote(self, paths: tuple[str, ...] | None) -> bool:
        """Say whether the rows come from the hub."""
        return self._paths(paths) is None

    def _fields(self) -> frozenset[str]:
        return frozenset((self.question, *((self.answer,) if self.answer else ())))

    def _instead(self) -> frozenset[str]:
        return frozenset((self.solution,) if self.solution else ())

    def _paths(self, paths: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """List the files to read; None stands for the hub."""
        if self.path is not None:
            return (self.path,)
        embedded = paths is None and str(self.hub).startswith(tiny.PREFIX)
        return (str(self.hub),) if embedded else paths


class Rows(Sequence[Row]):
    """The rows of a source that are in use, by number; each is read anew.

    Args:
      name: of the source.
      source: where they come from.
      paths: the files that ``data.path`` holds for it; None without such a path.
      keep: says of each row whether it is in use; it sees question and answer only.
    Raises:
      UserError: a row is malformed (file and line are named), or none is left.
    """

    def __init__(
        self, name: str, source: SourceOption, paths: tuple[str, ...] | None, keep: Callable[[Row], bool]
    ) -> None:
        self._name, self._source = name, source
        self._records = source.records(name, paths)
        self._keys = array("Q")
        self.unanswered = 0  # rows without a gold answer, left out
        self.dropped = 0  # rows that ``keep`` refused
        self.worked = 0  # rows in use whose gold answer holds a marker, and was not cut behind it
        known = Fingerprint()
        for key, where, record in self._records.scan():
            row = _row(name, source, where, record)
            if row is None:
                self.unanswered += 1
            elif keep(row):
                self._keys.append(key)
                self.worked += MARKER in row.answer
                known.add(row.question, row.answer, *chat.texts_of(row.messages))
            else:
                self.dropped += 1
        if not self._keys:
            raise UserError(f"data source {name}: {source.place(paths)} has no rows; give data.path=FILE.jsonl")
        self.fingerprint = str(known)  # of the rows in use

    def columns_fingerprint(self) -> str:
        """Give what follows from all fields of the rows in use, each of which it reads."""
        known = Fingerprint()
        for row in self:
            known.add_record(row.columns)
        return str(known)

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
        """Count the rows in use, without a gold answer, and dropped."""
        return {"rows": len(self), "unanswered": self.unanswered, "dropped": self.dropped}

    def describe(self) -> str:
        """Say the same to a person."""
        total = len(self) + self.unanswered + self.dropped
        parts = [f"{len(self)} of {total} rows"]
        if self.unanswered:
            parts.append(f"{self.unanswered} without a gold answer left out")
        if self.dropped:
            parts.append(f"{self.dropped} ({self.dropped / total:.2%}) left out because an evaluation set holds them")
        return ", ".join(parts)

    def doubt(self) -> str | None:
        """Say that gold answers look like worked solutions; None where they do not."""
        if not self.worked:
            return None
        return (
            f"data source {self._name}: the gold answer holds {MARKER} in {self.worked} of {len(self)} rows, as a "
            f"worked solution does, and no completion will equal it; type data.answer_marker='{MARKER}'"
        )

    def _read(self, key: int) -> Row:
        row = _row(self._name, self._source, f"data source {self._name}", self._records.record(key))
        assert row is not None, "a row that had an answer has lost it"
        return row


def open_rows(
    name: str,
    source: SourceOption,
    paths: tuple[str, ...] | None = None,
    keep: Callable[[Row], bool] = lambda row: True,
) -> Rows:
    """Open a source; rows whose answer is null, and those that ``keep`` refuses, are left out and counted.

    Raises:
      UserError: the path is missing, empty or malformed (file and line are named), a field is missing, or the hub has
        no such data set.
    """
    return Rows(name, source, paths, keep)


class _InMemory:
    """Rows that a source from outside has given. A key is a row's number."""

    def __init__(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._name, self._rows = name, rows

    def scan(self) -> Iterator[tuple[int, str, Any]]:
        for number, row in enumerate(self._rows):
            yield number, f"data source {self._name}, row {number}", row

    def record(self, key: int) -> Any:
        return self._rows[key]


def _row(name: str, source: SourceOption, where: str, record: Any) -> Row | None:
    """Read one row; the result is None where the gold answer is null."""
    if not isinstance(record, Mapping) or source.question not in record:
        raise _without("question", source.question, where, record)
    question, answer = record[source.question], _gold(source, where, record)
    if question is None:
        raise UserError(f"{where}: {source.question} must be a text, got null; correct the row, or take it out")
    if answer is None:
        return None
    messages = chat.asked(where, source.question, question) if chat.is_chat(question) else ()
    row = Row(
        question=chat.as_text(messages) if messages else str(question),
        answer=answer.strip(),
        messages=messages,
        columns=record,
    )
    for name_of_field, text in ((source.question, row.question), (source.answer or ANSWER, row.answer)):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half of a pair, which JSON can spell and no file can hold
            raise UserError(
                f"{where}: {name_of_field} must be Unicode text, got {text[error.start]!r} at character {error.start}; "
                "correct the row, or take it out"
            ) from error
    return row


def _gold(source: SourceOption, where: str, record: Mapping[str, Any]) -> str | None:
    """Read the gold answer; None where it is null, and an empty text where the source has none at all."""
    if source.answer is None:
        return ""
    if source.answer in record:
        gold = _said(where, source.answer, record[source.answer])
    elif source.solution is not None and source.solution in record:
        gold = boxed(str(_said(where, source.solution, record[source.solution])))
    else:
        raise _without("answer", source.answer, where, record)
    if gold is None or source.answer_marker is None:
        return gold
    _, marker, answer = gold.rpartition(source.answer_marker)
    if not marker:
        raise UserError(f"{where}: {source.answer!r} must hold {source.answer_marker!r} before the gold answer")
    return answer


def _said(where: str, name: str, value: Any) -> str | None:
    """Give a field as text; of messages the last, where it is the assistant's."""
    if value is None:
        return None
    return chat.answered(where, name, value) if chat.is_chat(value) else str(value)


def _without(setting_name: str, wanted: str, where: str, record: Any) -> UserError:
    none = "; data.answer=null is for a reward that reads no answer" if setting_name == "answer" else ""
    known = ", ".join(record) if isinstance(record, Mapping) else type(record).__name__
    return UserError(
        f"{where}: must have the field {wanted!r}, got {known}; type data.{setting_name}=FIELD, or "
        f"data.sources.NAME.{setting_name}=FIELD for one source{none}"
    )


def _load(name: str, source: Source) -> Any:
    require_on_hub(name, source)
    from datasets import load_dataset  # slow to import, and not needed for local files

    hub_name = str(source.hub)
    try:
        found = load_dataset(hub_name, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # whatever the hub client raises, offline or not: the line says which set and why
        known = hub.ask("dataset", hub_name, source.revision).words
        reason = known or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _not_on_hub(name, source, reason) from error
    hub.say_what_was_taken("dataset", hub_name)
    return found


def require_readable(name: str, source: Source, paths: tuple[str, ...] | None) -> None:
    """Refuse a source of local files whose first row cannot be read, before anything is loaded; Parquet is left out.

    Raises:
      UserError: the file is missing, or the row lacks a field.
    """
    if source.place(paths).lower().endswith(PARQUET):  # whose library takes a second to import
        return
    for _, where, record in source.records(name, paths).scan():
        _row(name, source, where, record)
        return


def require_on_hub(name: str, source: Source) -> None:
    """Refuse a source that neither the hub nor its cache has, before anything is loaded.

    Raises:
      UserError: which of offline, missing and private it is.
    """
    if source.hub is None:
        raise UserError(f"data source {name} must have a file, got none; type data=FILE.jsonl, or data.path=FILE")
    if Path(str(source.hub)).is_dir():  # in the hub's layout
        return
    try:
        hub.require("dataset", str(source.hub), source.revision)
    except hub.Unreachable as error:
        raise _not_on_hub(name, source, str(error)) from error


def _not_on_hub(name: str, source: Source, reason: str) -> UserError:
    return UserError(
        f"data source {name}: cannot load {source.hub} from the hub: {reason}; or give data.path=FILE.jsonl"
    )
