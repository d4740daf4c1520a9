"""A run of the embedded model that can be started, interrupted and compared, in processes of its own.

Importing torch takes longer than such a run. So each command is forked from this process, which has imported it and the
shim; ranks and vLLM are real processes that the command itself starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[2]
SECONDS = 600  # after which a command counts as hanging
TIMES = ("step_time", "time/")
UNEQUAL = ("run.json", "train.log", ".claim")  # say when and how, not what


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run: the words of ``python -m gatepo.MODULE`` beside the folder, and how many processes write in it."""

    words: tuple[str, ...]
    ranks: int = 1
    module: str = "train"


_SMALL = (
    *(
        "updates=4",
        "checkpoint.every=1",
        "checkpoint.keep=2",
        "threads=1",
        "evaluate.limit=2",
        "batch.prompts=2",
        "batch.num_generations=4",
    ),
    *("batch.micro=null", "sampling.max_completion_length=32", "evaluate.every=2"),
)
_TWO = (*_SMALL, "devices=2", "engine=deepspeed")
SCENARIOS = {
    "torch": Scenario(_SMALL),
    "deepspeed ZeRO-1": Scenario((*_TWO, "engine.zero_stage=1"), ranks=2),
    "deepspeed ZeRO-2": Scenario((*_TWO, "engine.zero_stage=2"), ranks=2),
    "deepspeed ZeRO-3": Scenario((*_TWO, "engine.zero_stage=3", "engine.persistence_threshold=0"), ranks=2),
    "vLLM": Scenario((*_SMALL, "rollout=vllm")),
    "evaluation": Scenario(("limit=4", "samples=2", "threads=1"), module="evaluate"),
}


class Command:
    """One command, forked, in a session of its own."""

    def __init__(self, scenario: Scenario, words: list[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(scenario, words, log, environment)

    def wait(self, seconds: float = SECONDS) -> int:
        """Give the exit code, -9 after SIGKILL; whatever it has started is ended with it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self._sweep()
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        self.kill()
        raise TimeoutError(f"no end after {seconds} s: {self.said()}")

    def kill(self) -> int:
        """End it as a power cut would: its ranks, and whatever else it started, at once."""
        self._sweep()
        return self.wait()

    def said(self) -> str:
        """Give the last line that it printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else ""

    def _sweep(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _become(scenario: Scenario, words: list[str], log: Path, environment: dict[str, str]) -> None:
    os.setsid()
    os.chdir(REPO)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = [f"gatepo.{scenario.module}", *words]
    code = 1
    try:
        runpy.run_module(f"gatepo.{scenario.module}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def shim(folder: Path) -> Path | None:
    """Build the shim there; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    built = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


def end_with_parent() -> None:
    """A harness that is killed leaves nothing behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def words_of(scenario: Scenario, folder: Path, model: Path | None = None) -> list[str]:
    """Give what a user types, to start and to go on alike."""
    if scenario.module == "evaluate":
        return [*scenario.words, f"out={folder}", f"run={model}"]
    return [*scenario.words, f"hydra.run.dir={folder}", "resume=auto"]


def content(folder: Path, scenario: Scenario) -> dict[str, object]:
    """Give what two runs of the same settings have alike to the bit."""
    if scenario.module == "evaluate":
        rows = (folder / "generations.jsonl").read_bytes().splitlines()
        results = json.loads((folder / "evaluation.json").read_text())
        return {"generations": Counter(rows), "results": {k: v for k, v in results.items() if k != "effort"}}
    found: dict[str, object] = {}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in rows]
    summary = json.loads((folder / "summary.json").read_text())
    found["summary"] = {k: v for k, v in summary.items() if k != "seconds"}
    found["completions"] = (folder / "completions.jsonl").read_bytes()
    found["weights"] = (folder / "model" / "model.safetensors").read_bytes()
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    found["files"] = sorted(name for name in names if not name.startswith(UNEQUAL))
    return found


def differences(folder: Path, scenario: Scenario, wanted: dict[str, object]) -> list[str]:
    """Name what is not as in the run that nothing happened to."""
    try:
        got = content(folder, scenario)
    except (OSError, ValueError) as error:
        return [f"unreadable: {error!r}"]
    return [name for name, value in wanted.items() if got[name] != value]


def orphans(marker: str) -> list[str]:
    """Give the processes of a command that outlived it; ``marker`` stands among their words or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in words and int(process.name) != os.getpid():
            found.append(process.name)
    return found
