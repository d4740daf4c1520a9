"""The jobs of a multirun on this machine, several at a time: ``hydra/launcher=processes``, with ``jobs=N``.

Hydra's joblib launcher 1.2.0 can skip what is finished, and cannot carry the rest
(hydra_plugins/hydra_joblib_launcher/_core.py): ``launch`` gives all jobs to one call of joblib.Parallel, which names no
process, calls nobody while they run, and returns when the last has ended. So nothing knows which jobs run, and nothing
can pass a signal on: after SIGTERM and SIGINT the command ended at once, and its workers and jobs went on without it.
So Hydra's own launcher prepares the jobs (hydra_plugins/gatepo.py), and this is a loop over processes.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from gatepo import cli, resume, signals
from gatepo.errors import UserError
from gatepo.launch.environment import COMMAND, WORDS
from gatepo.launch.job import LOG, SettingsFile, Started, fork, start
from gatepo.launch.settings import MultirunSettings
from gatepo.launch.view import FAILED, FINISHED, RUNNING, STOPPED, Seen, View, progress, status, time_left
from gatepo.remarks import remarks
from gatepo.run_folder import REMARKS, SUMMARY, is_finished
from gatepo.run_folder import found as checkpoints
from gatepo.schema import TrainConfig

MOST_REMARKS = 3
PAUSE, GLANCE = 0.1, 1.0  # seconds between two looks at the processes; at what they have written
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that is ready to be run."""

    settings: TrainConfig
    folder: Path
    finished: bool
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


def with_own_threads(settings: TrainConfig, words: Sequence[str]) -> TrainConfig:
    """Give a job on a CPU one thread, where nobody gives it another number.

    As many jobs as there are cores then have more throughput than one with all threads. It is a setting of the run like
    any other: what comes out does not depend on how many run beside it, and ``replay`` and ``resume`` find it.
    """
    typed = any(word.lstrip("+").startswith("threads=") for word in words)
    if settings.threads is not None or settings.devices > 1 or typed or _gpus():
        return settings
    return replace(settings, threads=1)


def run(
    returns: Sequence[JobReturn],
    first: int,
    folder: Path,
    at_once: int,
    objective: str | None = None,
    more: Sequence[str] | None = None,
) -> Sequence[JobReturn]:
    """Run jobs that are prepared.

    Args:
      returns: the jobs, as :mod:`gatepo.train` gave them to Hydra, or why there is none.
      first: the number of the first.
      folder: of the multirun.
      at_once: so many run at the same time.
      objective: the number of each job's summary that Hydra's sweeper is given.
      more: words with which the command, typed again, goes on; None: those of a sweep.
    Returns: what came of them.
    Raises:
      UserError: there is no room for so many at once.
    """
    MultirunSettings(jobs=at_once)
    if cli.started_with_others():  # these have trained already, each job with all of them
        return returns
    for found in returns:
        error = found._return_value
        if isinstance(error, Exception) and cli.one_line(error) is None:
            raise error
    again = [f"hydra.sweep.dir={folder}", f"resume={resume.AUTO}"] if more is None else more
    batch = _Batch(returns, first, folder, at_once, again)
    signals.say_beside(batch.how_to_go_on)
    batch.run()
    _end(returns, batch, objective)
    return returns


class _Batch:
    """Jobs, and what is seen of them."""

    def __init__(
        self, returns: Sequence[JobReturn], first: int, folder: Path, at_once: int, again: Sequence[str]
    ) -> None:
        self.folder, self._at_once, self._again = folder, at_once, again
        self.seen: list[Seen] = []
        self.refused: set[int] = set()  # the numbers of those that were never started
        self._waiting: deque[tuple[Seen, Job]] = deque()
        self._running: dict[int, tuple[Seen, Started, ExitStack]] = {}  # by slot
        self._view = View(sys.stderr)
        every = [set(found.overrides or ()) for found in returns]
        common = set.intersection(*every) if len(every) > 1 else set()
        for number, found in enumerate(returns, first):
            words = " ".join(word for word in found.overrides or () if word not in common)
            self._add(number, words, found)
        self._say_remarks(returns)
        self._most = max(job.settings.devices for _, job in self._waiting) if self._waiting else 1
        _require_room(at_once, self._most)
        self._had = sum(seen.update for seen in self.seen)
        self._begun = time.monotonic()

    def _add(self, number: int, words: str, found: JobReturn) -> None:
        job = found._return_value
        if isinstance(job, Job):
            updates, mu, folder = job.settings.updates, job.settings.batch.iterations, job.folder
        else:
            updates, mu, folder = 0, 1, self.folder / str(number)
        seen = Seen(number=number, words=words, folder=_shown(folder), updates=updates, iterations=mu)
        self.seen.append(seen)
        if not isinstance(job, Job):
            self.refused.add(number)
            self._fail(seen, str(cli.one_line(job)))
        elif job.finished:
            seen.state = FINISHED
            seen.look()
        else:
            if job.settings.resume is not None and checkpoints(job.folder):
                seen.look()
            self._waiting.append((seen, job))

    def _say_remarks(self, returns: Sequence[JobReturn]) -> None:
        """Say what is seldom meant before the first job begins; each of them says its own in its folder."""
        jobs = [(found._return_value, found.overrides or ()) for found in returns]
        lines = [line for job, words in jobs if isinstance(job, Job) for line in remarks(job.settings, list(words))]
        for line in list(dict.fromkeys(lines))[:MOST_REMARKS]:
            self._view.say(line)
        if len(set(lines)) > MOST_REMARKS:
            self._view.say(f"{len(set(lines)) - MOST_REMARKS} more such remarks are in the jobs' train.log")

    def run(self) -> None:
        """Run all, or leave with the signal that asked for it when those that run have stopped."""
        with signals.passed_on(lambda: [started.pid for _, started, _ in self._running.values()]):
            told: set[int] = set()
            glanced = 0.0
            while self._running or (self._waiting and not signals.asked()):
                self._take_in()
                if signals.asked():
                    told |= _stop([started.pid for _, started, _ in self._running.values()], told)
                else:
                    self._fill()
                if time.monotonic() - glanced >= GLANCE:
                    glanced = time.monotonic()
                    self._show()
                time.sleep(PAUSE)
        self._view.close()
        if signals.asked():
            signals.leave(signals.asked(), f"{signals.stopped(signals.asked())}; {self.how_to_go_on()}")

    def _fill(self) -> None:
        for slot in range(self._at_once):
            if slot not in self._running and self._waiting:
                seen, job = self._waiting.popleft()
                seen.state = RUNNING
                files = ExitStack()
                path = files.enter_context(SettingsFile(job.settings, job.folder))
                begin = fork if _may_be_forked(job) else start
                environment = {**job.environment, **self._devices(slot)}
                self._running[slot] = (seen, begin(path, job.folder, environment), files)

    def _devices(self, slot: int) -> dict[str, str]:
        """Give the jobs that run beside each other GPUs of their own."""
        if self._at_once == 1 or not _gpus():
            return {}
        return {VISIBLE: visible(slot, self._most, _gpus(), os.environ.get(VISIBLE))}

    def _take_in(self) -> None:
        for slot, (seen, started, files) in list(self._running.items()):
            code = started.ended()
            if code is None:
                continue
            files.close()
            del self._running[slot]
            seen.look()
            stopped = signals.ended_by(code)
            if stopped is not None:  # and with it the whole multirun
                seen.state = STOPPED
                signals.ask(stopped)
            elif code == 0:
                seen.state = FINISHED
                self._view.say("; ".join([f"{progress(seen)}, finished", *remarks_of(seen.folder), str(seen.folder)]))
            elif signals.asked():
                seen.state = STOPPED
            else:
                self._fail(seen, f"exit code {code}: {_last_line(seen.folder / LOG)}")

    def _fail(self, seen: Seen, why: str) -> None:
        seen.state = FAILED
        self._view.say(f"#{seen.number} {seen.words} failed, {why}; {seen.folder}")

    def _show(self) -> None:
        for seen, _, _ in self._running.values():
            seen.look()
        made = sum(seen.update for seen in self.seen) - self._had
        self._view.show(status(self.seen, time_left(self.seen, made, time.monotonic() - self._begun)))

    def done(self) -> str:
        """Say how many jobs have finished."""
        return f"{sum(seen.state == FINISHED for seen in self.seen)} of {len(self.seen)} jobs have finished"

    def how_to_go_on(self) -> str:
        """Say what is done, and which command does the rest."""
        typed = shlex.split(os.environ[COMMAND])
        more = [word for word in self._again if not any(t.startswith(word.partition("=")[0] + "=") for t in typed)]
        return f"{self.done()}; go on with: {shlex.join([*typed, *more])}"


def _end(returns: Sequence[JobReturn], batch: _Batch, objective: str | None) -> None:
    failed = [seen for seen in batch.seen if seen.state == FAILED]
    report = f"python -m gatepo.report {batch.folder}"
    error = UserError(f"{_failure(failed, batch)}; compare what there is with: {report}") if failed else None
    for seen, found in zip(batch.seen, returns, strict=True):
        found.status = JobStatus.FAILED if seen.state == FAILED else JobStatus.COMPLETED
        found.return_value = error if seen.state == FAILED else value_of(seen.folder, objective)
    if not failed:
        print(f"{len(returns)} of {len(returns)} jobs have finished; compare them with: {report}", flush=True)


def _failure(failed: Sequence[Seen], batch: _Batch) -> str:
    """Say which jobs failed, and how to go on where one of them was run; what was refused is refused again."""
    tried = len(failed) - len(batch.refused)
    why = [f"{len(batch.refused)} as said above"] if batch.refused else []
    why += [f"{tried} as its {LOG} says"] if tried else []
    names = ", ".join(str(seen.folder) for seen in failed)
    rest = batch.how_to_go_on() if tried else batch.done()
    return f"{len(failed)} of {len(batch.seen)} jobs failed, {' and '.join(why)}: {names}; {rest}"


def remarks_of(run: Path) -> list[str]:
    """Give what a finished run says of itself at its end: that it learned nothing, or ran away."""
    if not is_finished(run):
        return []
    found: list[str] = json.loads((run / SUMMARY).read_text(encoding="utf-8")).get(REMARKS, [])
    return found


def value_of(run: Path, objective: str | None) -> float | None:
    """Give a number of a finished run's summary by its dotted name.

    Raises:
      UserError: the summary has no such number.
    """
    if objective is None:
        return None
    numbers = dict(_numbers(json.loads((run / SUMMARY).read_text(encoding="utf-8"))))
    if objective not in numbers:
        raise UserError(
            f"objective must be one of {', '.join(numbers)}, the numbers of {run / SUMMARY}, got {objective}"
        )
    return numbers[objective]


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)


def _require_room(at_once: int, devices: int) -> None:
    """Refuse more jobs than there is room for: jobs of one device share the cores, others share nothing.

    Raises:
      UserError: there are fewer devices.
    """
    if at_once == 1 or (devices == 1 and not _gpus()):
        return
    there, kind = (_gpus(), "GPUs") if _gpus() else (len(os.sched_getaffinity(0)), "cores")
    if at_once * devices > there:
        raise UserError(
            f"jobs must be <= {there // devices} where a job has devices={devices} and this machine {there} {kind}, "
            f"got {at_once}; lower it"
        )


def visible(slot: int, devices: int, gpus: int, given: str | None) -> str:
    """Name the GPUs of one of the jobs that run beside each other.

    Args:
      slot: which of them, from 0.
      devices: of each.
      gpus: that are there.
      given: names of these, where the multirun itself has been given them.
    """
    there = given.split(",") if given is not None else [str(gpu) for gpu in range(gpus)]
    return ",".join(there[slot * devices : (slot + 1) * devices])


def _may_be_forked(job: Job) -> bool:
    """Say whether nothing that the job sets up needs a process that began with it."""
    settings = job.settings
    alone = settings.devices == 1 and not _gpus()
    own = settings.rollout.EXITS_HARD or settings.engine.EXITS_HARD  # it keeps processes or pools of its own
    return alone and not own and _but_words(job.environment) == _but_words(os.environ)


def _but_words(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != WORDS}


@cache
def _gpus() -> int:
    if metadata.version("torch").endswith("+cpu"):  # which takes seconds to import
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _stop(running: Sequence[int], told: set[int]) -> set[int]:
    """Pass the signal on to those that have begun since it came; the others have it already."""
    for pid in set(running) - told:
        with suppress(ProcessLookupError):
            os.kill(pid, signals.FORWARDED)
    return set(running)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next((line.removeprefix("gatepo: ") for line in reversed(lines) if line.strip()), "it said nothing")


def _shown(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
