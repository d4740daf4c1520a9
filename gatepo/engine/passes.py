"""How an update is cut into micro-batches, and what their passes through the policy add up to.

Every trainer shares this; it brings its own way to run a backward pass.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.telemetry import join
from gatepo.signals import stop_if_asked
from gatepo.types import TokenBatch
from gatepo.world import World

if TYPE_CHECKING:
    from torch import Tensor

Policy = Callable[..., "tuple[Tensor, Tensor]"]  # (ids, completion mask[, temperature]) -> (log-probability, entropy)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Completions that run through the policy at once."""

    rows_N: Tensor
    learns: bool  # whether they need a backward pass
    counts: bool = True  # False: run only because another rank runs one, and worth nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What the micro-batches of an update add up to on this device."""

    loss: float  # this device's share
    record: TokenRecord
    logp_NT: Tensor


def micro_batches(
    batch: TokenBatch, learns_N: Tensor, micro: int, shares_prompts: bool, tokens: int | None = None
) -> list[MicroBatch]:
    """Give completions of like length together, so that little is padding, or those of a prompt that they share.

    Completions that add nothing to the gradient stand apart: they need no backward pass. A micro-batch has ``micro``
    completions at most, and where ``tokens`` says so, as many tokens at most, padding among them; a completion of more
    than that runs alone.
    """
    length_N = batch.attention_NT.sum(dim=1)
    if shares_prompts:  # each as its prompt's longest, so that the order keeps them together
        group_N = batch.group_N.unique(return_inverse=True)[1]
        length_N = torch.zeros_like(length_N).scatter_reduce(0, group_N, length_N, "amax")[group_N]
    parts = []
    for learns in (True, False):
        rows_N = (learns_N == learns).nonzero().squeeze(1)
        rows_N = rows_N[length_N[rows_N].argsort(descending=True, stable=True)]
        sizes = _sizes(batch, rows_N, micro, shares_prompts, tokens)
        parts += [MicroBatch(rows_N=part_N, learns=learns) for part_N in rows_N.split(sizes) if len(part_N)]
    return parts


def _sizes(batch: TokenBatch, rows_N: Tensor, micro: int, shares_prompts: bool, tokens: int | None) -> list[int]:
    """Count the completions of each micro-batch, rows taken in their order."""
    whole_N, own_N = batch.attention_NT[rows_N].sum(dim=1).tolist(), batch.completion_NT[rows_N].sum(dim=1).tolist()
    sizes: list[int] = []
    held, last = 0, None  # tokens of the micro-batch, and the group that its last completion is of
    for whole, own, group in zip(whole_N, own_N, batch.group_N[rows_N].tolist(), strict=True):
        if shares_prompts:
            more = held + (own if group == last else whole)
        else:  # the first row is the longest
            more = held + (held // sizes[-1] if held else whole)
        if not held or sizes[-1] == micro or (tokens is not None and more > tokens):
            sizes.append(0)
            more = whole
        held, last = more, group
        sizes[-1] += 1
    return sizes


def in_step(parts: list[MicroBatch], batch: TokenBatch, world: World) -> list[MicroBatch]:
    """Give the same sequence of passes on every rank, at least one of them with a backward pass.

    Where weights or gradients are sharded each pass is a collective. A rank with fewer micro-batches of a kind runs
    its shortest completion again, and does not count it.
    """
    kinds = {learns: [part for part in parts if part.learns == learns] for learns in (True, False)}
    most = world.maximum(max(1, len(kinds[True])), len(kinds[False]))
    shortest_N = batch.attention_NT.sum(dim=1).argmin()[None]
    for (learns, found), wanted in zip(kinds.items(), most, strict=True):
        found += [MicroBatch(rows_N=shortest_N, learns=learns, counts=False)] * (int(wanted) - len(found))
    return kinds[True] + kinds[False]


def logprobs(
    policy: Policy,
    batch: TokenBatch,
    parts: list[MicroBatch],
    temperature: float | None,
    between: Callable[[], None] = stop_if_asked,
) -> Tensor:
    """Give log pi of the completion tokens, [N, T - 1], without gradient; ``between`` is as in :func:`accumulate`."""
    rows, found = [], []
    with torch.no_grad():
        for part in parts:
            between()
            cut = batch.rows(part.rows_N)
            part_NT, _ = policy(cut.ids_NT, cut.completion_NT, temperature)
            if part.counts:
                rows.append(part.rows_N)
                found.append(part_NT)
    return _in_batch_order(batch, rows, found)


def accumulate(
    policy: Policy,
    batch: TokenBatch,
    parts: list[MicroBatch],
    anchor_NT: Tensor | None,
    totals: Totals,
    objective: Objective,
    backward: Callable[[Tensor], object],
    between: Callable[[], None] = stop_if_asked,
) -> Passed:
    """Run every micro-batch forward, and backward those that learn.

    Args:
      policy: gives log-probability and entropy.
      batch: this device's completions.
      parts: how they are cut.
      anchor_NT: log pi_old; None takes this very pass's, without gradient (then every ratio is exactly 1).
      totals: denominators of the whole update.
      objective: the method.
      backward: takes a micro-batch's share of the loss.
      between: is called before each micro-batch, where the work may be left: nothing has changed yet.
    """
    loss, rows, records, logps = 0.0, [], [], []
    for part in parts:
        between()
        cut = batch.rows(part.rows_N)
        with torch.set_grad_enabled(part.learns):
            part_NT, entropy_NT = policy(cut.ids_NT, cut.completion_NT)
            share, record = policy_loss(
                objective,
                logp_NT=part_NT,
                anchor_NT=part_NT.detach() if anchor_NT is None else anchor_NT[part.rows_N, : part_NT.shape[1]],
                sampler_NT=cut.sampler_logp_NT[:, 1:],
                reference_NT=cut.reference_logp_NT,
                entropy_NT=entropy_NT,
                advantage_N=cut.advantage_N,
                mask_NT=cut.completion_NT[:, 1:],
                totals=totals,
            )
        if part.learns:
            backward(share if part.counts else share * 0)
        if part.counts:
            loss += share.item()
            rows.append(part.rows_N)
            records.append(record)
            logps.append(part_NT.detach())
    return Passed(
        loss=loss,
        record=join(records).rows(torch.cat(rows).argsort()),
        logp_NT=_in_batch_order(batch, rows, logps),
    )


def _in_batch_order(batch: TokenBatch, rows: list[Tensor], found: list[Tensor]) -> Tensor:
    """Put the rows of all micro-batches in their places, [N, T - 1], with 0 beyond a micro-batch's width."""
    whole_NT = found[0].new_zeros(batch.completion_NT[:, 1:].shape)
    for rows_N, part_NT in zip(rows, found, strict=True):
        whole_NT[rows_N, : part_NT.shape[1]] = part_NT
    return whole_NT
