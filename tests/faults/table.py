"""The table of docs/reliability.md, from what ``python -m tests.faults`` has kept: ``python -m tests.faults.table``."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

PROMISES = {
    "kill": "SIGKILL at a file operation, in the middle of a write, or at any time; up to three times a run",
    "flip": "a flipped bit in the newest checkpoint is noticed, and the one before is used",
    "power_cut": "the power fails: an ext4 image as it lies on the disk",
    "full_disk": "the disk fills up: one line says so, and with room the run goes on",
    "stop": "SIGTERM or SIGINT, to the command or to all its processes: exit 143 or 130, no traceback, within 30 s",
    "collision": "the same command twice: one is refused in one line, the other not disturbed",
}
ROOT = Path(__file__).parents[2]
LINES = ROOT / "benchmarks" / "faults.jsonl"
SOAK = ROOT / "benchmarks" / "soak.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, BEGIN_SOAK, END = "<!-- faults -->\n", "<!-- soak -->\n", "<!-- end -->\n"


def table(lines: list[dict[str, Any]]) -> str:
    """Give a row for each kind of injection and scenario, and one for each kind of operation at which was killed."""
    rows = ["| what happens | to a run with | tried | survived |", "| --- | --- | ---: | ---: |"]
    for kind, promise in PROMISES.items():
        for scenario in dict.fromkeys(line["scenario"] for line in lines if line["kind"] == kind):
            own = [line for line in lines if (line["kind"], line["scenario"]) == (kind, scenario)]
            tried = sum(_faults(line) for line in own)
            failed = sum(bool(line["unequal"] or line["orphans"]) for line in own)
            rows.append(f"| {promise} | {scenario} | {tried} | {tried - failed} |")
    return "\n".join(rows) + "\n\n" + _operations(lines)


def _faults(line: dict[str, Any]) -> int:
    return len(line["kills"]) if line["kind"] == "kill" else 1


def _operations(lines: list[dict[str, Any]]) -> str:
    """Count the kills by the operation and the file that it touched."""
    files: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for kill in line.get("kills", ()):
            files[kill["operation"]][kill["file"]] += 1
    rows = ["| killed at | times | of it |", "| --- | ---: | --- |"]
    for operation, counted in sorted(files.items()):
        of = ", ".join(f"{file} {times}" for file, times in counted.most_common(6))
        rows.append(f"| {operation} | {counted.total()} | {of} |")
    halves = sum(kill.get("half", False) for line in lines for kill in line.get("kills", ()))
    return "\n".join(rows) + f"\n\n{halves} of the writes were cut in the middle.\n"


def soak(lines: list[dict[str, Any]]) -> str:
    """Give a row for each soak: its length, the memory of its largest process, and the growth of memory and time."""
    rows = ["| updates | MiB | memory grew by | an update's processor time grew by |", "| ---: | ---: | ---: | ---: |"]
    for line in lines:
        mib = max(process["mib"] for process in line["processes"])
        slower = 100 * (line["step_time_ratio"] - 1)
        rows.append(f"| {line['updates']:,} | {mib:.0f} | {100 * line['growth']:.1f}% | {slower:.1f}% |")
    return "\n".join(rows) + "\n"


def written(page: str) -> str:
    """Give the page with the tables in their places, from what is kept."""
    faults, soaks = ([json.loads(line) for line in path.read_text().splitlines()] for path in (LINES, SOAK))
    for begin, rows in ((BEGIN, table(faults)), (BEGIN_SOAK, soak(soaks))):
        head, _, rest = page.partition(begin)
        page = head + begin + rows + END + rest.partition(END)[2]
    return page


def main() -> None:
    """Entry point."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
