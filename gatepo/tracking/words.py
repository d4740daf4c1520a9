"""Several trackers on the command line, ``'tracker=[wandb,tensorboard]'``, as the words that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable

KEY, EACH = "tracker=", "tracker.each"


def spelled_out(words: list[str], outside: Callable[[str], None] = lambda path: None) -> list[str]:
    """Replace ``tracker=[A,B]`` by the words that Hydra reads, and ``tracker.A.KEY`` by the key of a setting of A.

    Args:
      words: of the command line.
      outside: makes a class from outside, module.Class, known as an option.

    >>> spelled_out(["tracker=[wandb,none]", "tracker.wandb.mode=online"])[2:]
    ['+tracker@tracker.each.none=none', 'tracker.each.wandb.mode=online']
    """
    listed = [word for word in words if re.fullmatch(r"tracker=\[.*\]", word)]
    if not listed:
        return words
    entries = [entry.strip().strip("'\"") for entry in listed[-1].removeprefix(KEY).strip("[]").split(",")]
    named = {entry.rpartition(".")[2]: entry for entry in entries if entry}
    own = re.compile(rf"tracker\.(?=({'|'.join(map(re.escape, named))})\.)")
    for path in (entry for entry in named.values() if "." in entry):
        outside(path)
    found = [f"{KEY}several", *(f"+tracker@{EACH}.{name}={entry}" for name, entry in named.items())]
    return [*found, *(own.sub(f"{EACH}.", word, count=1) for word in words if word not in listed)]
