"""What a sampler must do, and how a completion gets its seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from gatepo.types import Group, Prompt, Sampling


class RolloutEngine(Protocol):
    """Draws completions from one version of the policy."""

    def generate(self, prompts: list[Prompt], sampling: Sampling, seed: int) -> list[Group]:
        """G completions of each prompt, in the prompts' order; a function of weights, prompts and seed alone."""
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take over the policy's weights; ``version`` is stamped on the completions drawn from now on."""
        ...

    def sleep(self) -> None:
        """Give device memory back while the trainer works, where the sampler can."""
        ...

    def wake(self) -> None:
        """Undo :meth:`sleep`."""
        ...

    def close(self) -> None:
        """Release everything; the engine is not used again."""
        ...


def completion_seed(seed: int, prompt: int, member: int) -> int:
    """The seed of one completion, 63 bits: a hash, so that no two runs, prompts or members share a stream.

    Args:
      seed: of the run.
      prompt: the prompt's position in the order of the run.
      member: 0 to G - 1.
    """
    digest = hashlib.blake2b(f"{seed} {prompt} {member}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
