"""``checkpoint.json``: the files of a checkpoint with their sizes and SHA-256, by which it is known to be whole.

It ends with the SHA-256 of its own content. That of an earlier version has sizes alone, and no such end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gatepo.errors import UserError

FILE = "checkpoint.json"
OWN = "sha256_of_the_rest"


class Damaged(UserError):
    """A checkpoint that is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint should hold; ``sha256`` is empty where an earlier version wrote it."""

    update: int
    ranks: int  # that wrote it
    files: dict[str, int]  # bytes, by path in the checkpoint
    sha256: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write it into the checkpoint's folder."""
        content: dict[str, Any] = asdict(self)
        content[OWN] = _digest_of(content)
        (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def check(self, folder: Path, names: Iterable[str]) -> None:
        """See that these files are what was written.

        Raises:
          Damaged: one is not.
        """
        for name in names:
            file = folder / name
            try:
                same_size = file.is_file() and file.stat().st_size == self.files[name]
                same = same_size and (not self.sha256 or digest(file) == self.sha256[name])
            except OSError as error:
                raise Damaged(f"{file} must be a file that can be read, got {error.strerror}") from error
            if not same_size:
                raise Damaged(f"{file} must be the {self.files[name]} bytes that were written")
            if not same:
                raise Damaged(f"{file} must be the bytes that were written, got others: its SHA-256 differs")


def read(folder: Path) -> Manifest:
    """Read the manifest in a checkpoint's folder.

    Raises:
      Damaged: there is none, or it is no manifest.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(f"{path} must be a checkpoint's manifest, got none to read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} must be a checkpoint's manifest, got a file that is no whole JSON") from error
    if not _is_manifest(content):
        raise Damaged(f"{path} must be a checkpoint's manifest as gatepo wrote it, got other or altered content")
    return Manifest(
        update=content["update"], ranks=content["ranks"], files=content["files"], sha256=content.get("sha256", {})
    )


def _is_manifest(content: Any) -> bool:
    """Say whether the content is as one of the two versions writes it, with names that stay below the folder."""
    match content:
        case {"update": int(), "ranks": int(ranks), "files": dict(files), **others}:
            named = files and all(_is_below(name) and isinstance(size, int) for name, size in files.items())
            states = {f"state-{rank}.pt" for rank in range(ranks)} if 0 < ranks <= len(files) else {""}
            if not named or not states <= files.keys():
                return False
            own = others.pop(OWN, None)
            if not others and own is None:
                return True
            rest = {name: value for name, value in content.items() if name != OWN}
            digests = others.get("sha256")
            same = isinstance(digests, dict) and digests.keys() == files.keys()
            return bool(same) and others.keys() == {"sha256"} and own == _digest_of(rest)
    return False


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def digest(file: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
