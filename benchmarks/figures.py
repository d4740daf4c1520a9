"""``python -m benchmarks.figures``: write the figures of bench.json into the documents; with ``--check``, compare only.

A figure in a document has its place in bench.json behind it, in a comment that no reader of the page sees:

    The verifier settles 11,826<!--verifier.rate.ours--> answers a second.

The words around it are the document's. So is how it is written: a new figure gets as many decimals as the old one has,
and a % where that has one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rows import BENCH

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"([^\s|(<>]*)<!--([\w-]+(?:\.[\w-]+)+)-->")
NUMBER = re.compile(r"-?[\d,]+(?:\.(\d+))?(%?)")


def documents(root: Path) -> list[Path]:
    """All that may hold figures."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md")), root / "experiments" / "README.md"]


def rendered(text: str, bench: dict[str, Any]) -> str:
    """Put the figures of ``bench`` into a document's text.

    >>> rendered("It takes 1.27<!--batch.ours--> s, 0.8%<!--batch.ratio-->.", {"batch": {"ours": 2, "ratio": 0.5}})
    'It takes 2.00<!--batch.ours--> s, 50.0%<!--batch.ratio-->.'
    """
    return FIGURE.sub(lambda found: f"{written(look_up(bench, found[2]), found[1])}<!--{found[2]}-->", text)


def look_up(bench: dict[str, Any], place: str) -> float | str:
    """Find a figure by its place, e.g. ``verifier.rate.ours``.

    Raises:
      KeyError: bench.json has no such figure.
    """
    found: Any = bench
    for name in place.split("."):
        if not isinstance(found, dict) or name not in found:
            raise KeyError(f"bench.json has no {place}")
        found = found[name]
    if not isinstance(found, int | float | str):
        raise KeyError(f"{place} of bench.json is no figure")
    return found


def written(value: float | str, before: str) -> str:
    """Write a value as the document wrote the one before it; a date as it is.

    Raises:
      ValueError: what stands before the comment is no number.
    """
    if isinstance(value, str):
        return value
    shape = NUMBER.fullmatch(before)
    if shape is None:
        raise ValueError(f"{before!r} is no number; write one in the form wanted, e.g. 0.00")
    return f"{value * 100 if shape[2] else value:,.{len(shape[1] or '')}f}{shape[2]}"


def differences(path: Path, bench: dict[str, Any]) -> Iterator[str]:
    """Name each figure of a document that is not bench.json's."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for found in FIGURE.finditer(line):
            wanted = written(look_up(bench, found[2]), found[1])
            if found[1] != wanted:
                yield f"{path.name}:{number}: {found[2]} is {wanted} in bench.json, not {found[1]}"


def main(arguments: list[str] | None = None, root: Path = ROOT, path: Path = BENCH) -> int:
    """Write or compare, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a document differs")
    check = parser.parse_args(arguments).check
    bench, differ = json.loads(path.read_text(encoding="utf-8")), []
    for document in documents(root):
        differ += differences(document, bench)
        if not check:
            document.write_text(rendered(document.read_text(encoding="utf-8"), bench), encoding="utf-8")
    print("\n".join(differ) or "no figure differs")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
