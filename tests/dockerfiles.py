"""What is wrong with a Dockerfile, as far as it can be seen without building it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

KNOWN = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "CMD", "ENTRYPOINT", "LABEL", "EXPOSE", "VOLUME"}
PINNED = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its words, continued lines joined, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word.upper(), rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in joined)]


def faults(text: str, root: Path) -> Iterator[str]:
    """Say what a linter would: unknown words, versions that float, files that are not there, a root at the end."""
    found = instructions(text)
    if next((word for word, _ in found if word != "ARG"), "") != "FROM":
        yield "FROM is not first"
    for word, rest in found:
        if word not in KNOWN:
            yield f"{word} is no instruction that is used here"
        elif word == "FROM" and not PINNED.fullmatch(rest.split()[0]):
            yield f"FROM {rest} has no version"
        elif word == "COPY":
            yield from _missing(rest, root)
        elif word == "RUN":
            yield from _of_command(rest)
        elif word in ("CMD", "ENTRYPOINT"):
            try:
                assert isinstance(json.loads(rest), list)
            except (ValueError, AssertionError):
                yield f"{word} is no list of words"
    users = [rest for word, rest in found if word == "USER"]
    if not users or users[-1] in ("root", "0"):
        yield "it runs as root"


def copied(text: str) -> set[str]:
    """What is copied from the folder of the build."""
    return {source for word, rest in instructions(text) if word == "COPY" for source in shlex.split(rest)[:-1]}


def _missing(rest: str, root: Path) -> Iterator[str]:
    kept = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in shlex.split(rest)[:-1]:
        if not (root / source).exists():
            yield f"COPY {source} is not there"
        elif source not in kept:
            yield f"COPY {source} is left out by .dockerignore"


def _of_command(rest: str) -> Iterator[str]:
    for command in re.split(r"&&|;", rest):
        if "apt-get install" in command and "--no-install-recommends" not in command:
            yield "apt-get install takes recommended packages too"
        if "pip install" in command:
            if "--no-cache-dir" not in command:
                yield "pip install keeps its cache"
            if "--constraint" not in command and "==" not in command:
                yield "pip install takes whatever version is newest"
    if "apt-get install" in rest and "rm -rf /var/lib/apt/lists" not in rest:
        yield "apt's lists stay in the layer"
