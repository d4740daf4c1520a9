"""What a run that goes on rests on: its settings, its rows, the code that it brings, and the lines that it has written.

``basis.json`` of every checkpoint holds them as they were. A run goes on where they are still the same, but for
settings that declare ``may_change``; else it is refused, with what differs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatepo import config, manifest, targets
from gatepo.errors import UserError
from gatepo.overrides import may_change
from gatepo.run_folder import BASIS, CONFIG, METRICS, ROWS, SUMMARY, found, is_finished, is_whole
from gatepo.schema import TrainConfig

log = logging.getLogger(__name__)
AUTO = "auto"
AT_ONCE = 1 << 20  # bytes of a file of lines that are read at once: it grows as long as the run
_NOTHING = "nothing"


def basis(settings: TrainConfig, rows: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Give what a checkpoint rests on, to be written into it.

    Args:
      settings: of the run.
      rows: fingerprints by data source.
      folder: of the run.
    """
    return {
        "settings": as_written(settings),
        "rows": dict(rows),
        "outside": targets.digests(config.plain(settings)),
        "lines": {name: _prefix(folder / name, None) for name in ROWS},
    }


def as_written(settings: TrainConfig) -> dict[str, Any]:
    """Give the settings as config.yaml has them: how a run was started is none of them."""
    return config.plain(replace(settings, resume=None))


def with_changes(run: Path, asked: TrainConfig, words: list[str]) -> TrainConfig:
    """Read the settings of an interrupted run, with what was typed beside ``resume=RUN`` in their place.

    Args:
      run: its folder.
      asked: the settings as they are composed without it.
      words: of the command line.
    Raises:
      UserError: a word changes what the run rests on.
    """
    written = config.load(run / CONFIG, trust=asked.trust)
    now, typed = as_written(written), as_written(asked)
    for word in words:
        key = word.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".")
        if key == "resume":
            continue
        path = next((name for name in may_change(TrainConfig) if f"{key}.".startswith(f"{name}.")), key)
        before, after = _at(now, path), _at(typed, path)
        if after == _NOTHING:  # a preset on several axes
            raise _refused(run, key, before, word.partition("=")[2])
        for changed, *values in differences({path: before}, {path: after}):
            raise _refused(run, changed, *values)
        _put(now, path, after)
    return replace(config.from_plain(TrainConfig, now), resume=str(run))


def require_same_settings(run: Path, settings: TrainConfig, then: Mapping[str, Any]) -> None:
    """Refuse to go on with settings on which the run rests, where they differ.

    Args:
      run: its folder.
      settings: as they are now.
      then: as they were.
    Raises:
      UserError: the first that differs: key, then, now.
    """
    for key, before, after in differences(then, as_written(settings)):
        raise _refused(run, key, before, after)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Give the keys on which a run rests and whose values differ, with both values."""
    before, after = (dict(_flat(json.loads(json.dumps(values)), "")) for values in (then, now))
    for key in {**before, **after}:
        if key == "resume" or any(f"{key}.".startswith(f"{name}.") for name in may_change(TrainConfig)):
            continue
        values = before.get(key, _NOTHING), after.get(key, _NOTHING)
        if values[0] != values[1]:
            yield key, *values


def require_same(run: Path, settings: TrainConfig, newest: Path) -> None:
    """Refuse to go on from a whole checkpoint with other settings, or without the lines of its updates.

    Raises:
      UserError: what differs: then, and now.
    """
    then, update = _read(newest), manifest.read(newest).update
    if settings.updates < update:
        raise UserError(f"updates must be >= {update}, which {run} has behind it, got {settings.updates}; type more")
    if then is None:
        log.warning("%s was written by an earlier version: that settings and rows are the same is not known", newest)
        return
    require_same_settings(run, settings, then["settings"])
    _require_same_code(run, settings, then.get("outside", {}))
    if settings.updates != then["settings"]["updates"]:
        words = "updates is %d now: from update %d on every schedule is that of a run of so many"
        log.info(words, settings.updates, update + 1)
    _require_lines(run, then["lines"], update)


def _read(newest: Path) -> dict[str, Any] | None:
    path = newest / BASIS
    if not path.is_file():
        return None
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known


def require_same_rows(run: Path, rows: Mapping[str, str], newest: Path) -> None:
    """Refuse to go on from a whole checkpoint with other rows.

    Raises:
      UserError: the first source whose rows differ.
    """
    for name, before in (_read(newest) or {"rows": {}})["rows"].items():
        if rows.get(name) != before:
            raise UserError(
                f"{name} must have the rows with which {run} was trained, got others: their fingerprint was {before} "
                f"and is {rows.get(name, _NOTHING)}; bring them back, or start a new run"
            )


def _require_same_code(run: Path, settings: TrainConfig, then: Mapping[str, str | None]) -> None:
    """Refuse to go on with a class or a function from outside whose file is another one by now."""
    for path, now in targets.digests(config.plain(settings)).items():
        before = then.get(path, now)  # an earlier version did not write it down
        if before != now:
            raise UserError(
                f"{path} must stay as it was when {run} was trained, got a file with another SHA-256: it was {before} "
                f"and is {now}; bring the file back, or start a new run"
            )


def _require_lines(run: Path, then: Mapping[str, Mapping[str, Any]], update: int) -> None:
    """Refuse to go on where the lines of the updates before are missing, short or altered."""
    for name, wanted in then.items():
        path = run / name
        lines = path.read_bytes().count(b"\n") if path.is_file() else 0
        if path.is_file() and _prefix(path, wanted["bytes"]) == wanted:
            continue
        got = "no such file" if not path.is_file() else f"{lines} lines, {path.stat().st_size} bytes"
        if path.is_file() and path.stat().st_size >= wanted["bytes"]:
            got = "other bytes: its SHA-256 differs"
        rows = f"the rows of {update} updates" if name == METRICS else "its samples"
        raise UserError(
            f"{path} must have {rows}, {wanted['bytes']} bytes, as when the checkpoint was written, got {got}; "
            "bring the file back, or start a new run"
        )


def goes_on(run: Path, settings: TrainConfig) -> bool:
    """Say whether a run goes on, rather than begins: it was asked to, and, with ``resume=auto``, it can."""
    return settings.resume is not None and (settings.resume != AUTO or bool(found(run)))


def require_usable(run: Path, settings: TrainConfig) -> None:
    """Refuse, before anything is written there, a folder with a run that these settings do not go on with.

    Raises:
      UserError: what is in the way.
    """
    began = (run / CONFIG).is_file()
    on = goes_on(run, settings)
    if on and is_done(run, settings):
        none = "choose another, since it has no checkpoint to go on from (checkpoint.every=N leaves some)"
        remedy = "choose another, or type more updates beside it" if found(run) else none
        raise UserError(f"resume must be an interrupted run, got {run}, which is finished; {remedy}")
    if on and not found(run):
        raise UserError(
            f"resume must be a run with a checkpoint, got {run}; set checkpoint.every when you start it again"
        )
    again = settings.resume == AUTO and began and not is_finished(run)
    taken = [name for name in (METRICS, SUMMARY) if (run / name).exists()]
    if taken and not on and not again:
        other = f"go on with it by resume={run}, or " if found(run) and not is_finished(run) else ""
        raise UserError(
            f"hydra.run.dir={run} must be a folder without a run, got one with {taken[0]}; {other}choose another"
        )
    if settings.resume == AUTO and began and (again or is_whole((run / CONFIG).read_text(encoding="utf-8"))):
        then = config.load(run / CONFIG, trust=settings.trust, typed=settings)
        require_same_settings(run, settings, as_written(then))


def is_done(run: Path, settings: TrainConfig) -> bool:
    """Say whether a run has finished, with as many updates as are asked for.

    Raises:
      UserError: its summary is damaged.
    """
    if not is_finished(run):
        return False
    try:
        return bool(json.loads((run / SUMMARY).read_text(encoding="utf-8"))["updates"] >= settings.updates)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run / SUMMARY} must be a run's summary, got no whole JSON; take it out to go on") from error


def _refused(run: Path, key: str, then: Any, now: Any) -> UserError:
    return UserError(
        f"{key} must stay as it was when {run} was trained, {then}, got {now}; a run goes on with other "
        f"{', '.join(may_change(TrainConfig))} alone"
    )


def _prefix(path: Path, size: int | None) -> dict[str, Any]:
    """Describe the first bytes of a file, or all."""
    digest, read = hashlib.sha256(), 0
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while part := file.read(min(AT_ONCE, left - read)):
            digest.update(part)
            read += len(part)
    return {"bytes": read, "sha256": digest.hexdigest()}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _at(values: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return _NOTHING
        values = values[name]
    return values


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        values = values[name]
    values[last] = value
