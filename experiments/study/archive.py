"""Keep a study's runs in one small file, from which its verdicts and its page can be made again without running.

    python experiments/study/archive.py pack multirun/study experiments/study/runs.tar.xz
    python experiments/study/archive.py unpack experiments/study/runs.tar.xz multirun/study
    python -m gatepo.study

The metrics are those that the claims and the page read, to the last digit; the others would be five times as large.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from gatepo.run_folder import CONFIG, METRICS, RECORD, SUMMARY, is_finished
from gatepo.study.__main__ import START

KEYS = ("update", "reward", "entropy", "eur", "clip_ratio/region_mean", "tau/pos", "tau/neg")
PREFIXES = ("rewards/", "eur/iteration_")


def pack(folder: Path, file: Path) -> int:
    """Write the finished runs below ``folder`` into ``file``, without the path to it, and give their number."""
    runs = sorted(path.parent for path in folder.glob(f"*/*/{CONFIG}") if is_finished(path.parent))
    with tarfile.open(file, "w:xz", preset=9) as tar:
        _add(tar, START, (folder / START).read_bytes())
        for run in runs:
            for name in (CONFIG, RECORD, SUMMARY):
                content = (run / name).read_bytes().replace(str(folder).encode(), folder.name.encode())
                _add(tar, f"{run.relative_to(folder)}/{name}", content)
            _add(tar, f"{run.relative_to(folder)}/{METRICS}", "".join(_kept(run / METRICS)).encode())
    return len(runs)


def unpack(file: Path, folder: Path) -> None:
    """Write the runs of ``file`` into ``folder``, which must not be there yet."""
    folder.mkdir(parents=True)
    with tarfile.open(file, "r:xz") as tar:
        tar.extractall(folder, filter="data")


def _kept(metrics: Path) -> Iterator[str]:
    for line in metrics.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        kept = {key: value for key, value in row.items() if key in KEYS or key.startswith(PREFIXES)}
        yield json.dumps(kept, separators=(",", ":")) + "\n"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def main() -> None:
    """Entry point."""
    match sys.argv[1:]:
        case ["pack", folder, file]:
            print(f"{pack(Path(folder), Path(file))} runs, {Path(file).stat().st_size:,} bytes")
        case ["unpack", file, folder]:
            unpack(Path(file), Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
