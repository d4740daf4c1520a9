"""Run the study and judge its claims: ``python -m gatepo.study [claims=[C3,C5]] [seeds=2] [jobs=2] [dir=FOLDER]``.

    python -m gatepo.study                          # every claim, ten seeds
    python -m gatepo.study 'claims=[C3,C5]' seeds=2 # a small one
    python -m gatepo.study hydra/launcher=submitit_slurm    # on a cluster; needs hydra-submitit-launcher

The claims are those of experiments/study/claims.yaml. ``seeds`` takes the first of the registered ones, ``jobs`` runs
train at the same time, ``dir`` (multirun/study) holds a folder for each run. ``hydra/launcher=submitit_slurm``, with
its settings beside it, starts the runs on a cluster. Any other word is a setting of all runs, and makes the study
exploratory. Started again, it leaves alone what is finished and goes on with the rest; it refuses
runs that were made with other settings or by code that changes numbers. A run that fails stops no other. At the end
it prints a verdict on each claim, and the path of the page.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from gatepo import cli, durable
from gatepo.errors import UserError
from gatepo.launch import multirun
from gatepo.launch.environment import COMMAND
from gatepo.presets import CLAIMS, register, yaml_dir
from gatepo.schema import TrainConfig
from gatepo.study import cells, judge
from gatepo.study.claims import Claim, Registration, read

START, VERDICTS, LIST = "study.json", "verdicts.json", "cells.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was typed."""

    claims: tuple[Claim, ...]
    seeds: tuple[int, ...]
    jobs: int
    folder: Path
    words: tuple[str, ...]  # settings of all runs
    launcher: tuple[str, ...]  # words of Hydra's that say where the runs are started; none: here


def asked(typed: Sequence[str], known: Registration) -> Asked:
    """Read the words of the command line.

    Raises:
      UserError: one of them cannot be.
    """
    own = {"claims": "null", "seeds": str(len(known.seeds)), "jobs": str(_cores()), "dir": "multirun/study"}
    words = []
    for word in typed:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"a word must be KEY=VALUE, got {word}; see --help")
        if key in own:
            own[key] = value
        else:
            words.append(word)
    try:
        names, seeds, jobs = (yaml.safe_load(own[key]) for key in ("claims", "seeds", "jobs"))
    except yaml.YAMLError as error:
        raise UserError(f"claims must be a list, got {own['claims']}; type e.g. claims=[C3,C5]") from error
    if not isinstance(seeds, int) or not 2 <= seeds <= len(known.seeds):
        raise UserError(f"seeds must be a number from 2 to the {len(known.seeds)} registered ones, got {own['seeds']}")
    if not isinstance(jobs, int) or jobs < 1:
        raise UserError(f"jobs must be >= 1, got {own['jobs']}; type e.g. jobs=2")
    chosen = [names] if isinstance(names, str) else names
    if chosen is not None and not (isinstance(chosen, list) and all(isinstance(name, str) for name in chosen)):
        raise UserError(f"claims must be a list, got {own['claims']}; type e.g. claims=[C3,C5]")
    return Asked(
        claims=known.chosen(chosen),
        seeds=known.seeds[:seeds],
        jobs=jobs,
        folder=Path(own["dir"]),
        words=tuple(word for word in words if not word.startswith("hydra")),
        launcher=tuple(word for word in words if word.startswith("hydra")),
    )


def _claims() -> Path:
    return yaml_dir("experiments") / "study" / CLAIMS


def _cores() -> int:
    return min(2, len(os.sched_getaffinity(0)))


def study(given: Asked, known: Registration) -> None:
    """Run what is missing, judge, and print.

    Raises:
      UserError: a run was made otherwise, or runs have failed.
    """
    planned = cells.plan(known.experiment, given.claims, given.seeds, given.words, given.folder)
    cells.require_same(planned)
    at_start = cells.registered(given.folder / START, dict(known.digests), given.words)
    failure = _run(planned, given, known.experiment)
    runs = cells.finished(planned)
    found = judge.verdicts(known, given.claims, runs, given.seeds, given.folder, cells.coordinates, at_start)
    held = {"claims_sha256": known.sha256, "verdicts": [asdict(verdict) for verdict in found]}
    durable.write_text(given.folder / VERDICTS, json.dumps(held, indent=2) + "\n")
    print(f"claims of {_claims()}, SHA-256 {known.sha256}")
    print("\n".join(map(judge.line, found)))
    if runs:
        from gatepo.report.write import write  # its drawing libraries are slow to import

        title = f"Study: claims of SHA-256 {known.sha256}"
        print(write(list(runs.values()), given.folder / "report", found, title), flush=True)
    if failure is not None:
        raise failure


def _run(planned: Sequence[cells.Planned], given: Asked, experiment: str) -> UserError | None:
    """Run what is missing; give the error that names what has failed."""
    if not planned:
        return None
    if given.launcher:
        return _launched(planned, given, experiment)
    ended = multirun.run(list(cells.jobs(planned)), 0, given.folder, given.jobs, more=())
    errors = (one._return_value for one in ended)
    return next((error for error in errors if isinstance(error, UserError)), None)


def _launched(planned: Sequence[cells.Planned], given: Asked, experiment: str) -> UserError | None:
    """Run what is missing by another launcher of Hydra's, as jobs of one sweep."""
    left, path = cells.listed(planned), given.folder / LIST
    if not left:
        return None
    path.write_text(json.dumps(left, indent=2) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "gatepo.train", "-m", f"+experiment={experiment}", *given.words, *given.launcher]
    command += ["hydra/sweeper=cells", f"hydra.sweeper.file={path}", f"hydra.sweep.dir={given.folder}", "resume=auto"]
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        return None
    return UserError(f"{shlex.join(command)} ended with exit code {code}; its messages are above; type the same again")


def main() -> None:
    """Entry point of ``python -m gatepo.study`` and of the script ``gatepo-study``."""
    parser = argparse.ArgumentParser(
        prog="python -m gatepo.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="claims, seeds, jobs, dir, or a setting")
    typed = parser.parse_args().words
    os.environ[COMMAND] = shlex.join(["python", "-m", "gatepo.study", *sys.argv[1:]])
    with cli.errors_as_one_line(kind=TrainConfig):
        known = read(_claims())
        given = asked(typed, known)
        register()
        study(given, known)


if __name__ == "__main__":
    main()
