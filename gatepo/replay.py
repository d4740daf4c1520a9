"""Run a run again, and say whether every metric comes out the same: ``python -m gatepo.replay outputs/DATE/TIME``.

    python -m gatepo.replay outputs/DATE/TIME [out=FOLDER] [trust=true]

It trains by the run's config.yaml in a new folder, RUN-replay unless out says another, and compares each number to the
bit. Times are no metrics. Exit code 0: all are equal; 1: not, with the update from which on, and what differs in the
two run.json as the probable cause.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from gatepo import cli, config, durable, record
from gatepo.errors import UserError
from gatepo.json_lines import rows
from gatepo.launch.environment import COMMAND
from gatepo.run_folder import RECORD, WORDS
from gatepo.schema import TrainConfig
from gatepo.tracking.base import NoTracker
from gatepo.train import train_in_processes

TIMES = ("step_time", "time/")  # keys that begin so are seconds, or follow from seconds
SHOWN = 3  # differing keys that are named
NOT_A_CAUSE = ("start", "end", "exit", "command", WORDS)
DIFFERENT = 1  # exit code


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two runs part."""

    update: int | None  # the first that differs; None where only the accuracies at the end do
    values: dict[str, tuple[Any, Any]]  # by key, before and now


def first_difference(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Difference | None:
    """Compare metrics update by update, to the bit; only as many as both have.

    >>> first_difference([{"update": 1, "loss": 0.1, "step_time": 3.0}], [{"update": 1, "loss": 0.1}])
    >>> first_difference([{"update": 1, "loss": 0.1}], [{"update": 1, "loss": 0.2}])
    Difference(update=1, values={'loss': (0.1, 0.2)})
    """
    for one, other in zip(before, now, strict=False):
        values = differing(one, other)
        if values:
            return Difference(update=one.get("update"), values=values)
    return None


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Give the keys whose values differ, with both; the text of a number has all of its bits, and NaN is itself."""
    keys = [key for key in dict.fromkeys((*before, *now)) if not key.startswith(TIMES)]
    pairs = {key: (before.get(key), now.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if json.dumps(pair[0]) != json.dumps(pair[1])}


def causes(before: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """Say in what the starts of a run differ from the start of its replay, each difference once."""
    found = []
    for start in before:
        one, other = _flat(start), _flat(now)
        for key in dict.fromkeys((*one, *other)):
            if key not in NOT_A_CAUSE and one.get(key) != other.get(key):
                found.append(f"{key} {one.get(key)} -> {other.get(key)}")
    return list(dict.fromkeys(found))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def replay(run: Path, out: Path, trust: bool) -> bool:
    """Run it again in ``out``, print what came of it, and say whether all is equal.

    Raises:
      UserError: ``run`` is no run, has no update, or names code without trust; or the training failed.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"RUN must be the folder of a run, got {run}, which has no config.yaml; give outputs/...")
    before = rows(run / "metrics.jsonl")
    if not before:
        raise UserError(f"RUN must be a run with an update, got {run}, whose metrics.jsonl has none")
    then = record.starts(run)
    settings = config.load(run / "config.yaml", trust=trust)
    went_on = changes(then)
    if went_on:
        print(f"{went_on}; a replay has the last settings from its first update on", flush=True)
    _train(settings, out)
    now = rows(out / "metrics.jsonl")
    found = _found(before, now, _accuracies(run), _accuracies(out))
    print(_said(found, len(before), len(now)))
    if found is not None:
        print(_reasons(then, record.starts(out), went_on))
    print(out)
    return found is None


def _train(settings: TrainConfig, out: Path) -> None:
    durable.make_folder(out)
    if any((out / name).exists() for name in ("config.yaml", "metrics.jsonl")):
        raise UserError(f"out must be a folder without a run, got {out}; choose another with out=FOLDER")
    train_in_processes(replace(settings, resume=None, tracker=NoTracker()), out)


def _found(
    before: Sequence[Mapping[str, Any]],
    now: Sequence[Mapping[str, Any]],
    accuracies: Mapping[str, Any],
    again: Mapping[str, Any],
) -> Difference | None:
    """Look at the updates, then at whether there are as many, then at the accuracies of a run that came to its end."""
    found = first_difference(before, now)
    if found is None and (len(before) > len(now) or (accuracies and len(before) < len(now))):
        count = {"updates": (len(before), len(now))}
        return Difference(update=min(len(before), len(now)) + 1, values=count)
    if found is None and accuracies:
        values = differing(_flat(accuracies), _flat(again))
        return Difference(update=None, values=values) if values else None
    return found


def _accuracies(run: Path) -> dict[str, Any]:
    """Read the accuracies of a finished run; none where it is not finished."""
    path = run / "summary.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["evaluation"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} must be the summary of a run, got a damaged one; take it away") from error
    return {"evaluation": found}


def _said(found: Difference | None, before: int, now: int) -> str:
    compared = f"{min(before, now)} updates compared; times ({', '.join(TIMES)}) are not"
    if found is None:
        return f"equal: every metric to the bit; {compared}"
    where = "the accuracies at the end on" if found.update is None else f"update {found.update} on"
    shown = [f"{key} {one} -> {other}" for key, (one, other) in list(found.values.items())[:SHOWN]]
    more = f" and {len(found.values) - SHOWN} more" if len(found.values) > SHOWN else ""
    return f"different from {where}: {', '.join(shown)}{more}; {compared}"


def changes(starts: Sequence[Mapping[str, Any]]) -> str:
    """Say with which other settings a run went on, by what was typed at its starts; nothing where it did not."""
    typed = [dict(str(word).partition("=")[::2] for word in start.get(WORDS, ())) for start in starts]
    found = []
    for before, after in pairwise(typed):
        for key in [key for key, value in after.items() if key not in HOW and before.get(key) != value]:
            found.append(f"{key}={after[key]}" + (f" (before {key}={before[key]})" if key in before else ""))
    return f"the run went on with {', '.join(found)}" if found else ""


HOW = ("resume", "trust", "force")  # words that are no settings of what is learned


def _reasons(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], went_on: str) -> str:
    if not then:
        return f"probable cause: not known, since the run has no {RECORD}"
    found = causes(then, now[-1])
    if not found and went_on:
        return f"probable cause: {went_on}"
    if not found:
        return f"probable cause: nothing in {RECORD} differs; was config.yaml or metrics.jsonl edited?"
    return f"probable cause: {'; '.join(found)}"


def main() -> None:
    """Entry point of ``python -m gatepo.replay`` and of the script ``gatepo-replay``."""
    parser = argparse.ArgumentParser(prog="python -m gatepo.replay", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("words", nargs="*", metavar="out=FOLDER trust=true", help="where it runs; its code may run")
    options = parser.parse_args()
    os.environ[COMMAND] = shlex.join(["python", "-m", "gatepo.replay", *sys.argv[1:]])
    with cli.errors_as_one_line():
        given = dict(word.partition("=")[::2] for word in options.words)
        for key in [key for key in given if key not in ("out", "trust")]:
            raise UserError(f"{key} must be out or trust, got {key}={given[key]}; the run's own settings are repeated")
        out = Path(given.get("out") or options.run.with_name(f"{options.run.name}-replay"))
        equal = replay(options.run, out, given.get("trust") == "true")
    sys.exit(0 if equal else DIFFERENT)


if __name__ == "__main__":
    main()
