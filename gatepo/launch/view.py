"""What a person sees of the jobs of a multirun: one view of all, redrawn on a terminal, else a line now and then."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from gatepo.run_folder import METRICS

WAITING, RUNNING, FINISHED, FAILED, STOPPED = "waiting", "running", "finished", "failed", "stopped"
PERIOD = 60.0  # seconds between two lines where there is no terminal
_TAIL = 1 << 16  # bytes of metrics.jsonl that hold its last lines


@dataclass(slots=True, kw_only=True)
class Seen:
    """What is known of one job."""

    number: int
    words: str  # that the other jobs do not have alike
    folder: Path
    updates: int
    iterations: int  # mu, passes over one rollout batch
    state: str = WAITING
    update: int = 0
    figures: dict[str, float] = field(default_factory=dict)  # reward, entropy, and EUR of the last iteration

    def look(self) -> None:
        """Read the last lines of the job's metrics.jsonl, as far as they are written; of a damaged file nothing."""
        names = {"reward": "reward", "entropy": "entropy", f"eur/iteration_{self.iterations}": "eur"}
        for line in _last_lines(self.folder / METRICS, self.iterations):
            with suppress(ValueError, KeyError, TypeError):  # that it is damaged, the job itself says
                row = json.loads(line)
                self.update = int(row["update"])
                self.figures |= {shown: float(row[name]) for name, shown in names.items() if name in row}


def status(jobs: Sequence[Seen], left: float | None) -> list[str]:
    """Say how far all jobs are, and then each that runs; ``left`` is in seconds, None where it is not known yet."""
    count = Counter(job.state for job in jobs)
    parts = [f"{count[FINISHED]} of {len(jobs)} jobs finished"]
    parts += [f"{count[state]} {state}" for state in (RUNNING, WAITING, FAILED, STOPPED) if count[state]]
    head = ", ".join(parts) + ("" if left is None else f"; {_duration(left)} left")
    return [head, *(progress(job) for job in jobs if job.state == RUNNING)]


def progress(job: Seen) -> str:
    """Say how far a job is."""
    figures = "".join(f" {name} {value:.3f}" for name, value in job.figures.items())
    return f"#{job.number} {job.words}: {job.update}/{job.updates}{figures}"


def time_left(jobs: Sequence[Seen], made: int, seconds: float) -> float | None:
    """Estimate the seconds until all jobs have ended, None before the first update.

    Args:
      jobs: all of them.
      made: updates that were made since the multirun began.
      seconds: since then.
    """
    if made <= 0:
        return None
    return sum(job.updates - job.update for job in jobs if job.state in (WAITING, RUNNING)) * seconds / made


class View:
    """Shows lines in the place of those that it showed before; what was said stays above them.

    Args:
      stream: a terminal, or a file, into which a line goes now and then.
      clock: gives the seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._drawn: list[str] = []
        self._next = clock() + PERIOD

    def show(self, lines: Sequence[str]) -> None:
        """Show how far all are."""
        if not self._terminal:
            if self._clock() >= self._next:
                self._next = self._clock() + PERIOD
                print("; ".join(lines), file=self._stream, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken back
        lines = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
        if lines != self._drawn:
            self._draw("", lines)

    def say(self, line: str) -> None:
        """Say what has happened."""
        if self._terminal:
            self._draw(f"{line}\n", self._drawn)
        else:
            print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Take the view away; what was said stays."""
        if self._terminal:
            self._draw("", [])

    def _draw(self, said: str, lines: Sequence[str]) -> None:
        up = f"\x1b[{len(self._drawn)}A" if self._drawn else ""
        self._stream.write(f"{up}\r\x1b[J{said}" + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = list(lines)


def _last_lines(path: Path, count: int) -> list[bytes]:
    """Give the last whole lines of a file that another process writes; none where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            behind = file.tell() > 0
            lines = file.read().split(b"\n")[:-1]  # what stands behind the last end of a line is not whole
    except OSError:
        return []
    return lines[behind:][-count:]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
