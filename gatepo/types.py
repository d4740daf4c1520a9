"""What the parts hand to each other.

Axes: P prompts, G completions of one prompt, N = P * G completions, T tokens (prompt and completion together in a
``TokenBatch``, completion alone elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch

from gatepo.objective.surrogate import TokenRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question that is ready to be answered."""

    index: int  # position in the order of the run; seeds its completions
    source: str
    question: str
    answer: str  # the gold answer
    token_ids: tuple[int, ...]  # templated, tokenized, cut to the longest allowed
    truncated: bool = False  # whether it was cut
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)  # all fields of the row, for rewards
    messages: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)  # what the model is asked, by role
    chat: bool = False  # whether rewards in TRL's style get these, as of a conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled answer."""

    token_ids: tuple[int, ...]  # with the end token, if it was reached
    text: str  # decoded without the end token
    finished: bool  # ended by itself, not by the length limit
    policy_version: int  # updates that the sampling policy had seen
    sampler_logp: tuple[float, ...]  # log-probability of each token by the sampler, nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The G completions of one prompt."""

    prompt: Prompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn. Training samples from the full distribution: truncating it would bias the ratio."""

    temperature: float
    max_completion_length: int  # tokens
    num_generations: int  # G


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The weighted sum of the parts (eq. 9), and the parts before weighting."""

    total: float
    parts: dict[str, float]
    timed_out: bool = False  # its answer ran out of time
    killed: bool = False  # its answer cost a worker process: out of time, memory or CPU

    @property
    def graded(self) -> bool:
        """Whether a part of it is an answer."""
        return "answer" in self.parts

    @property
    def score(self) -> float:
        """What an evaluation counts: whether the answer is right (eq. 11), or all of it where no part is an answer."""
        return self.parts.get("answer", self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """The tokens of completions and of their prompts as tensors, padded on the right."""

    ids_NT: Tensor  # prompt and completion
    completion_NT: Tensor  # bool: True on completion tokens
    attention_NT: Tensor  # bool: True on prompt and completion
    advantage_N: Tensor
    group_N: Tensor  # which prompt of the run
    sampler_logp_NT: Tensor  # nats, 0 outside completions
    reference_logp_NT: Tensor | None = None  # of the untrained model, [N, T - 1], for a KL penalty on it

    def __len__(self) -> int:
        return len(self.ids_NT)

    def to(self, device: torch.device) -> TokenBatch:
        """Move it to another device."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: part.to(device) for name, part in parts.items() if part is not None}
        return TokenBatch(**moved)

    def rows(self, index_N: Tensor) -> TokenBatch:
        """Take the named completions, cut to the longest of them."""
        width = int(self.attention_NT[index_N].sum(dim=1).max())
        reference_NT = self.reference_logp_NT
        return TokenBatch(
            ids_NT=self.ids_NT[index_N, :width],
            completion_NT=self.completion_NT[index_N, :width],
            attention_NT=self.attention_NT[index_N, :width],
            advantage_N=self.advantage_N[index_N],
            group_N=self.group_N[index_N],
            sampler_logp_NT=self.sampler_logp_NT[index_N, :width],
            reference_logp_NT=None if reference_NT is None else reference_NT[index_N, : width - 1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """What one update reports."""

    loss: float
    grad_norm: float  # before clipping
    learning_rate: float  # that this update used
    record: TokenRecord  # of every completion, in the batch's order
    logp_NT: Tensor  # log pi of the completion tokens before the step, [N, T - 1], nats


def make_batch(
    groups: list[Group], advantage_PG: Tensor, pad_id: int, device: torch.device, learn_unfinished: bool = True
) -> TokenBatch:
    """Put groups and their advantages [P, G] into one padded batch.

    Without ``learn_unfinished`` the tokens of completions that hit the length limit are no completion tokens.
    """
    rows = [(group.prompt, c) for group in groups for c in group.completions]
    width = max(len(prompt.token_ids) + len(c.token_ids) for prompt, c in rows)
    ids_NT = torch.full((len(rows), width), pad_id)
    completion_NT = torch.zeros_like(ids_NT, dtype=torch.bool)
    attention_NT = torch.zeros_like(completion_NT)
    sampler_logp_NT = torch.zeros(ids_NT.shape)
    for n, (prompt, c) in enumerate(rows):
        start, end = len(prompt.token_ids), len(prompt.token_ids) + len(c.token_ids)
        ids_NT[n, :end] = torch.tensor(prompt.token_ids + c.token_ids)
        completion_NT[n, start:end] = c.finished or learn_unfinished
        attention_NT[n, :end] = True
        sampler_logp_NT[n, start:end] = torch.tensor(c.sampler_logp)
    return TokenBatch(
        ids_NT=ids_NT.to(device),
        completion_NT=completion_NT.to(device),
        attention_NT=attention_NT.to(device),
        advantage_N=advantage_PG.flatten().float().to(device),
        group_N=torch.tensor([prompt.index for prompt, _ in rows], device=device),
        sampler_logp_NT=sampler_logp_NT.to(device),
    )
