"""What is done to a run, and what must then hold: each function does one thing once, and says what it saw.

Every one is drawn from a seed, so that it can be done again.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.runs import SCENARIOS, Command, Scenario, content, differences, orphans, words_of

STOPPED = {signal.SIGTERM: 143, signal.SIGINT: 130}
Operation = tuple[str, str]  # its name, and the kind of file


@dataclass(slots=True)
class Reference:
    """A run that nothing happened to: what it left, and its operations by rank."""

    wanted: dict[str, object]
    operations: list[list[Operation]]
    seconds: float


@dataclass(slots=True)
class Bench:
    """A folder in which runs are started, and what is known of those that nothing happens to."""

    root: Path
    model: Path  # of an evaluation: a finished run
    references: dict[str, Reference] = field(default_factory=dict)
    number: int = 0

    def reference(self, name: str) -> Reference:
        """Run once without a fault."""
        if name not in self.references:
            scenario, folder = SCENARIOS[name], self.root / "reference"
            shutil.rmtree(folder, ignore_errors=True)
            logs = [self.root / f"operations-{rank}" for rank in range(scenario.ranks)]
            started = time.monotonic()
            for rank, log in enumerate(logs[:1] if scenario.ranks == 1 else logs):
                shutil.rmtree(folder, ignore_errors=True)
                log.unlink(missing_ok=True)
                ranked = {"FAULT_RANK": str(rank)} if scenario.ranks > 1 else {}
                self.finish(name, folder, {"FAULT_DIR": str(folder), "FAULT_LOG": str(log)} | ranked)
            seconds = (time.monotonic() - started) / scenario.ranks
            operations = [[operation_of(line, folder) for line in read_lines(log)] for log in logs]
            self.references[name] = Reference(content(folder, scenario), operations, seconds)
        return self.references[name]

    def start(self, name: str, folder: Path, environment: dict[str, str] | None = None) -> Command:
        """Type the scenario's command, which starts or goes on."""
        self.number += 1
        log = self.root / "said" / f"{self.number}.log"
        log.parent.mkdir(exist_ok=True)
        scenario = SCENARIOS[name]
        return Command(scenario, words_of(scenario, folder, self.model), log, environment or {})

    def finish(self, name: str, folder: Path, environment: dict[str, str] | None = None) -> str:
        """Type it, and let it finish.

        Raises:
          RuntimeError: it did not.
        """
        command = self.start(name, folder, environment)
        code = command.wait()
        if code != 0:
            raise RuntimeError(f"{name} ended with {code}: {command.said()}")
        return command.said()

    def empty(self) -> Path:
        """Give the name of a folder that is not there."""
        folder = self.root / "run"
        shutil.rmtree(folder, ignore_errors=True)
        return folder


def read_lines(log: Path) -> list[str]:
    """Give the lines of a shim's log, none where no operation was counted."""
    return log.read_text().splitlines() if log.exists() else []


def operation_of(line: str, folder: Path) -> Operation:
    """Name an operation and the kind of file it touched, from the shim's line."""
    _, name, path = line.split(" ", 2)
    below = Path(path).relative_to(folder).parts if path != str(folder) else ("the folder",)
    kind = below[0].removesuffix(".partial")
    if kind == "checkpoints" and len(below) > 2:
        kind = f"checkpoint {'engine' if below[2].startswith('engine') else below[2].split('-')[0].split('.')[0]}"
    return name, kind


# Kills


def kill(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Kill a run up to three times, at file operations or at any time, and go on by the same command each time."""
    scenario, reference, folder = SCENARIOS[name], bench.reference(name), bench.empty()
    kills = []
    for turn in range(draw.choice((1, 2, 2, 3))):
        if (folder / "summary.json").exists():
            break
        rank = draw.randrange(scenario.ranks)
        operations = reference.operations[rank]
        if draw.random() < 0.15:
            kills.append(_kill_at_a_time(bench, name, folder, draw.uniform(0.1, 0.9) * reference.seconds))
        else:
            at = _stratified(operations, draw) if turn == 0 else draw.randint(1, max(1, len(operations) // 2))
            kills.append(_kill_at_an_operation(bench, name, folder, rank, at, draw.random() < 0.5))
    said = _finished(bench, name, folder)
    return {"kills": [k for k in kills if k is not None], **_verdict(scenario, folder, reference, said)}


def _stratified(operations: list[Operation], draw: random.Random) -> int:
    """Choose a kind of operation first, so that a rare one comes up as often as another."""
    kind = draw.choice(sorted(set(operations)))
    return draw.choice([n for n, operation in enumerate(operations, 1) if operation == kind])


def _kill_at_an_operation(
    bench: Bench, name: str, folder: Path, rank: int, at: int, half: bool
) -> dict[str, Any] | None:
    log = bench.root / "killed"
    log.unlink(missing_ok=True)
    environment = {"FAULT_DIR": str(folder), "FAULT_AT": str(at), "FAULT_LOG": str(log)}
    environment |= {"FAULT_HALF": "1"} if half else {}
    environment |= {"FAULT_RANK": str(rank)} if SCENARIOS[name].ranks > 1 else {}
    bench.start(name, folder, environment).wait()
    lines = read_lines(log)
    if len(lines) < at:
        return None  # it had finished before
    operation, kind = operation_of(lines[at - 1], folder)
    return {"at": at, "rank": rank, "operation": operation, "file": kind, "half": half and operation == "write"}


def _kill_at_a_time(bench: Bench, name: str, folder: Path, seconds: float) -> dict[str, Any] | None:
    command = bench.start(name, folder)
    time.sleep(seconds)
    if command.kill() == 0:
        return None
    return {"after": round(seconds, 2), "operation": "any time", "file": "-"}


def _finished(bench: Bench, name: str, folder: Path) -> str:
    try:
        return bench.finish(name, folder)
    except (RuntimeError, TimeoutError) as error:
        return f"NOT FINISHED: {error}"


def _verdict(scenario: Scenario, folder: Path, reference: Reference, said: str) -> dict[str, Any]:
    unequal = [said] if said.startswith("NOT FINISHED") else differences(folder, scenario, reference.wanted)
    return {"unequal": unequal, "orphans": orphans(str(folder))}


# Damage


def flip(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Flip a bit in the newest checkpoint of a run that was cut off: it goes on from the one before, and says so."""
    scenario, reference, folder = SCENARIOS[name], bench.reference(name), bench.empty()
    _cut_off_at_update(bench, name, folder, 3)
    newest = sorted((folder / "checkpoints").glob("update-??????"))[-1]
    file = draw.choice([path for path in sorted(newest.rglob("*")) if path.is_file()])
    content = bytearray(file.read_bytes())
    byte, bit = draw.randrange(len(content)), draw.randrange(8)
    content[byte] ^= 1 << bit
    file.write_bytes(content)
    where = str(file.relative_to(newest))
    said = _finished(bench, name, folder)
    log = (bench.root / "said" / f"{bench.number}.log").read_text()
    unnoticed = [] if newest.name in log and "goes on from" in log else ["goes on in silence"]
    found = _verdict(scenario, folder, reference, said)
    found["unequal"] = [d for d in found["unequal"] if d != "files"] + unnoticed  # the damaged one is kept aside
    return {"file": where, "byte": byte, "bit": bit, **found}


def _cut_off_at_update(bench: Bench, name: str, folder: Path, update: int) -> None:
    """End a run as soon as the checkpoint of this update has its name; with the one before still there."""
    command = bench.start(name, folder)
    wanted = folder / "checkpoints" / f"update-{update:06d}"
    while not wanted.exists():
        if os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise RuntimeError(f"{name} ended before update {update}: {command.said()}")
        time.sleep(0.005)
    command.kill()


# Power cuts, full disks


def power_cut(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Take what an ext4 image on a loop device holds at some time, as the disk after a power cut, and go on there."""
    scenario, reference = SCENARIOS[name], bench.reference(name)
    with tempfile.TemporaryDirectory(dir=bench.root) as scratch:
        image, copy = Path(scratch, "image"), Path(scratch, "copy")
        _make_image(image, 256)
        with mounted(image, Path(scratch, "there")) as there:
            command = bench.start(name, there / "run")
            seconds = draw.uniform(0.3, 1.1) * reference.seconds
            time.sleep(seconds)
            _send(command.pid, signal.SIGSTOP, to_all=True)  # nothing is written while the image is copied
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            command.kill()
        with mounted(copy, Path(scratch, "there")) as there:
            left = sorted(path.name for path in (there / "run" / "checkpoints").glob("update-??????"))
            said = _finished(bench, name, there / "run")
            found = _verdict(scenario, there / "run", reference, said)
    return {"after": round(seconds, 2), "checkpoints": left, **found}


def full_disk(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Let the disk fill up at some time: one line says so, and with room the run goes on."""
    scenario, reference = SCENARIOS[name], bench.reference(name)
    with tempfile.TemporaryDirectory(dir=bench.root) as scratch:
        image = Path(scratch, "image")
        _make_image(image, 256)
        with mounted(image, Path(scratch, "there")) as there:
            folder, ballast = there / "run", there / "ballast"
            room = draw.randint(1, 60) << 20
            _fill(ballast, shutil.disk_usage(there).free - room)
            command = bench.start(name, folder)
            code = command.wait()
            log = (bench.root / "said" / f"{bench.number}.log").read_text()
            ballast.unlink()
            said = _finished(bench, name, folder) if code else command.said()
            found = _verdict(scenario, folder, reference, said)
    if code not in (0, 2) or "Traceback" in log:
        found["unequal"].append(f"exit code {code}: {log.strip().splitlines()[-1][-200:]}")
    return {"room_mib": room >> 20, "code": code, **found}


def _fill(ballast: Path, size: int) -> None:
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _make_image(image: Path, mib: int) -> None:
    with image.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)


@contextmanager
def mounted(image: Path, there: Path) -> Iterator[Path]:
    """Mount an image by a loop device; the caller is root."""
    there.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, there], check=True)
    try:
        yield there
    finally:
        while subprocess.run(["umount", there], check=False).returncode:
            time.sleep(0.1)


def can_mount(root: Path) -> bool:
    """Whether this user may mount an image here."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    image, there = root / "image", root / "there"
    _make_image(image, 8)
    try:
        with mounted(image, there):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


# Signals, collisions


def stop(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Send SIGTERM or SIGINT at some time, to the command or to all its processes, and go on by the same command."""
    scenario, reference, folder = SCENARIOS[name], bench.reference(name), bench.empty()
    number = draw.choice((signal.SIGTERM, signal.SIGINT))
    to_all = draw.random() < 0.5
    command = bench.start(name, folder)
    seconds = draw.uniform(0.1, 0.9) * reference.seconds
    time.sleep(seconds)
    sent = time.monotonic()
    _send(command.pid, number, to_all)
    code = command.wait()
    took = time.monotonic() - sent
    log = (bench.root / "said" / f"{bench.number}.log").read_text()
    found = _verdict(scenario, folder, reference, _finished(bench, name, folder))
    if code not in (0, STOPPED[number]) or "Traceback" in log or took > 30:
        found["unequal"].append(f"exit code {code} after {took:.1f} s: {log.strip().splitlines()[-1:]}")
    return {"signal": number.name, "to_all": to_all, "after": round(seconds, 2), "code": code, **found}


def _send(pid: int, number: signal.Signals, to_all: bool) -> None:
    send: Callable[[int, int], None] = os.killpg if to_all else os.kill
    try:
        send(pid, number)
    except OSError as error:
        if error.errno != errno.ESRCH:  # it has ended already
            raise


def collision(bench: Bench, name: str, draw: random.Random) -> dict[str, Any]:
    """Start the same command twice: one of the two runs is refused in one line, and the other is not disturbed."""
    scenario, reference, folder = SCENARIOS[name], bench.reference(name), bench.empty()
    first = bench.start(name, folder)
    pause = draw.choice((0.0, draw.uniform(0, 0.9) * reference.seconds))
    time.sleep(pause)
    second = bench.start(name, folder)
    codes = sorted((second.wait(), first.wait()))
    found = _verdict(scenario, folder, reference, "")
    if codes != [0, 2] and not (codes == [0, 0] and pause > 0.5 * reference.seconds):
        found["unequal"].append(f"exit codes {codes}")
    return {"pause": round(pause, 2), "codes": codes, **found}
