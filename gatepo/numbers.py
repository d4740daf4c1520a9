"""What numbers rest on beside the settings: the code that makes them, and the libraries that it computes with.

Two runs with the same settings and the same digest have the same metrics to the bit on the same machine. The digest is
the SHA-256 of the modules in :data:`ROOMS` as they are compiled, where comments, docstrings, assertions and line breaks
are gone, of the embedded model and data, and of the versions of :data:`LIBRARIES` and Python. It is taken when this
module is imported, which a run does together with the code itself: what is edited later is not what runs.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import CodeType

ROOMS = (
    *("objective", "formulas", "engine", "rollout", "rewards", "data", "tiny", "evaluate/loop.py"),
    *("build.py", "controllers.py", "logprobs.py", "loop.py", "metrics.py", "model.py", "products.py", "run.py"),
    *("state.py", "types.py", "world.py"),
)
"""Files and folders of the package whose code can change a number of metrics.jsonl or an accuracy."""
LIBRARIES = ("torch", "numpy", "transformers", "tokenizers", "safetensors", "sympy")
_HERE = Path(__file__).parent


def _meaning(code: CodeType) -> Iterator[str]:
    """Give what compiled code does, without the names of files, the numbers of lines and the values of docstrings."""
    yield repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags))
    yield repr(code.co_exceptiontable if hasattr(code, "co_exceptiontable") else None)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _meaning(constant)
        else:  # the order of a set is another in every process
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _content(path: Path) -> bytes:
    """Give what a file says: of code what it does, of other files their bytes."""
    if path.suffix != ".py":
        return path.read_bytes()
    compiled = compile(path.read_bytes(), path.name, "exec", optimize=2, dont_inherit=True)
    return "\n".join(_meaning(compiled)).encode()


def digest(root: Path = _HERE) -> str:
    """Take the digest of the code below ``root`` and of the libraries here."""
    found = hashlib.sha256()
    paths = [path for room in ROOMS for path in ([root / room] if room.endswith(".py") else (root / room).rglob("*"))]
    for path in sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts):
        found.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(_content(path)).hexdigest()}\n".encode())
    for name in LIBRARIES:
        found.update(f"{name} {metadata.version(name)}\n".encode())
    found.update(".".join(platform.python_version_tuple()[:2]).encode())
    return found.hexdigest()[:16]


DIGEST = digest()
