"""What a sampler must do, and how a completion gets its seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from gatepo.settings import POSITIVE, section, setting
from gatepo.types import Group, Prompt, Sampling
from gatepo.world import World

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class RolloutEngine(Protocol):
    """Draws completions from one version of the policy."""

    def generate(self, prompts: list[Prompt], sampling: Sampling, seed: int) -> list[Group]:
        """Give G completions of each prompt, in the prompts' order; a function of weights, prompts and seed alone."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutParts:
    """What a sampler is made from, beside its own settings."""

    model_path: str
    module: PreTrainedModel | None  # to decode with, for samplers that do so
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype  # that the body computes in
    context: int  # longest prompt and completion together, tokens
    seed: int
    world: World


@section("rollout")
class RolloutOption:
    """What is chosen by ``rollout=NAME``; it says all that others need to know of the sampler."""

    EXITS_HARD: ClassVar[bool] = False
    """Whether a process that used it must end without Python's own tearing down."""
    DECODES_WITH_MODULE: ClassVar[bool] = True
    """Whether it decodes with a module of this process, which may be the trainer's own; else it loads the model."""
    BATCHES_AT_ONCE: ClassVar[int] = 1
    """Batches that an evaluation gives it in one call; more where completions take the place of those that ended."""
    LOGIT_BYTES: ClassVar[int | None] = None
    """Bytes of one logit while it samples, where they are not those of a module of this process."""
    SLEEPS: ClassVar[bool] = False
    """Whether its weights wait in the host's memory while the trainer learns on a GPU."""

    max_sequences: int = setting("So many completions are decoded at once; >= batch.num_generations.", default=256)
    tolerance: float = setting(
        "Sampler and trainer may differ by this on probe tokens, nats (root mean square).", default=1e-3, rule=POSITIVE
    )

    @property
    def devices_per_copy(self) -> int:
        """Devices that share one copy of the model."""
        return 1

    def make(self, parts: RolloutParts) -> RolloutEngine:
        """Make the sampler."""
        raise NotImplementedError

    @property
    def share_of_gpu(self) -> float:
        """Say which part of a GPU it takes for itself, however little it needs; 0: what it needs alone."""
        return 0.0

    def memory_note(self, need: float, rest: float, devices: dict[str, float]) -> str | None:
        """Say what a plan should add about memory.

        Args:
          need: GiB of one device that the sampler takes.
          rest: GiB that others hold there while it samples.
          devices: GiB of each device that is known, by name.
        """
        return None


def completion_seed(seed: int, prompt: int, member: int) -> int:
    """Give the seed of one completion, 63 bits: a hash, so that no two runs, prompts or members share a stream.

    Args:
      seed: of the run.
      prompt: the prompt's position in the order of the run.
      member: 0 to G - 1.
    """
    digest = hashlib.blake2b(f"{seed} {prompt} {member}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
