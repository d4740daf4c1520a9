"""Reads back what W&B wrote offline.

wandb 0.31 has no reader in Python any more. Its files are blocks of 32 KiB with the record headers of LevelDB's logs
(checksum, length, kind), behind seven bytes of its own, and each record is a message of wandb's own protocol.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER, WHOLE, LAST = 32768, 7, 1, 4


@dataclass
class Logged:
    """What W&B was given of a run, in one start of it."""

    run: Any = None  # id, display_name, run_group, tags, notes
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)  # one row per step
    axes: dict[str, str] = field(default_factory=dict)  # metric (with *) to the metric that it is drawn over
    summary: dict[str, Any] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)  # exit codes
    media: Path = Path()

    def series(self, key: str) -> dict[int, Any]:
        return {row["update"]: row[key] for row in self.history if key in row}


def read(run: Path) -> list[Logged]:
    """Each start of a run, oldest first."""
    return [_read(path) for path in sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))]


def _read(path: Path) -> Logged:
    found = Logged(media=path.parent / "files")
    for record in _records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                found.run = record.run
                found.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                found.history.append(_items(record.history.item))
            case "summary":
                found.summary |= _items(record.summary.update)
            case "metric":
                found.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
            case "exit":
                found.ended.append(record.exit.exit_code)
    return found


def _items(items: Any) -> dict[str, Any]:
    """Keys of several levels joined by a dot."""
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    assert data[:4] == b":W&B"
    at, held = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too short for another header
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        held += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            yield record
