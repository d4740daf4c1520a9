"""Log-probability and entropy of chosen tokens.

Axes: M tokens, H hidden, V vocabulary, S one slice of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gatepo.memory import KEPT_MIB
from gatepo.products import parts_pay, product_of_parts

# Elements of a slice of logits [M, S] and of the head [S, H], 32 MiB each in fp32. A CPU is as fast with slices of an
# eighth of that, which lie in its cache (the products take nine tenths of the time); an accelerator wants few and long
# operations.
SLICE_ELEMENTS = 1 << 23
NARROWEST = 512  # below that, reading and writing d hidden [M, H] once per slice costs more than its product


def token_logprobs(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    token_M: Tensor,
    temperature: float,
    bias_V: Tensor | None = None,
    kept_mib: int = KEPT_MIB,
) -> tuple[Tensor, Tensor]:
    """Compute log pi(token) and the entropy of pi at each position, pi = softmax(hidden @ weight.T / temperature).

    Only positions of interest are passed in (completion tokens), never a whole padded batch. Logits [M, V] would still
    outweigh the model (1,024 tokens of a 151,936-word vocabulary: 0.6 GB, several times over), so they exist one slice
    of the vocabulary at a time; a vocabulary that is no wider than one slice takes the plain way.

    Products and softmax are in fp32 at least, whatever autocast says: in bf16 their noise alone would move the EUR.

    Args:
      hidden_MH: last hidden state at the position *before* each token.
      weight_VH: the head.
      token_M: the sampled token ids, in [0, V).
      temperature: the sampling temperature; the policy is what was sampled from.
      bias_V: the head's bias, if it has one.
      kept_mib: MiB of exponentials that the backward pass need not compute anew, beyond those that the memory of the
        head's gradient has room for: there is one token for each hidden unit of the head. That memory is then taken in
        the forward pass. 0: nothing is kept.
    Returns: (log-probability [M] in nats with gradient, entropy [M] in nats over the full vocabulary without).

    >>> logp, entropy = token_logprobs(torch.zeros(2, 4), torch.ones(8, 4), torch.tensor([3, 5]), 1.0)
    >>> logp.exp()  # all of eight tokens are equally likely
    tensor([0.1250, 0.1250])
    """
    width = slice_width(*hidden_MH.shape)
    if width >= len(weight_VH):
        return dense_token_logprobs(hidden_MH, weight_VH, token_M, temperature, bias_V)
    return sliced_token_logprobs(hidden_MH, weight_VH, token_M, temperature, bias_V, width, kept_mib << 20)


def dense_token_logprobs(
    hidden_MH: Tensor, weight_VH: Tensor, token_M: Tensor, temperature: float, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Do :func:`token_logprobs` with all logits [M, V] at once: for small vocabularies, and as the reference."""
    dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
    with torch.autocast(hidden_MH.device.type, enabled=False):
        logits_MV = torch.nn.functional.linear(
            hidden_MH.to(dtype), weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
        )
        if temperature != 1.0:
            logits_MV = logits_MV / temperature
        logp_MV = torch.log_softmax(logits_MV, dim=-1)
        with torch.no_grad():
            entropy_M = -(logp_MV.exp() * logp_MV).sum(dim=-1)
        return logp_MV.gather(1, token_M[:, None]).squeeze(1), entropy_M


def sliced_token_logprobs(
    hidden_MH: Tensor,
    weight_VH: Tensor,
    token_M: Tensor,
    temperature: float,
    bias_V: Tensor | None,
    width: int,
    kept_bytes: int = 0,
) -> tuple[Tensor, Tensor]:
    """Give :func:`token_logprobs` over slices of the vocabulary of this width; a token outside [0, V) gets NaN."""
    kept_bytes = kept_bytes if torch.is_grad_enabled() else 0
    with torch.autocast(hidden_MH.device.type, enabled=False):
        logp_M, entropy_M = _SlicedLogProbs.apply(hidden_MH, weight_VH, bias_V, token_M, temperature, width, kept_bytes)
    return logp_M, entropy_M


def slice_width(tokens: int, hidden: int) -> int:
    """Give width of a slice of the vocabulary within SLICE_ELEMENTS; in steps of 64, so that rows stay aligned."""
    return max(NARROWEST, SLICE_ELEMENTS // max(tokens, hidden) // 64 * 64)


class _SlicedLogProbs(torch.autograd.Function):
    """Log-probability and entropy from running sums over slices; the backward pass computes what was not kept anew.

    With x the logits, m their maximum, e = exp(x - m), and per token s = sum_v e and t = sum_v e (x - m):

      log pi(token) = x_token - m - log s
      entropy       = log s - t / s
      d log pi(token) / d x = -(e - s [v = token]) / s

    m grows from slice to slice; s and t are then rescaled to it. Everything is relative to m, so that neither large
    logits nor a token of probability near 1 lose digits.
    Source: online softmax (Milakov and Gimelshein, arXiv 1805.02867); the sum t is ours.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        token_M: Tensor,
        temperature: float,
        width: int,
        kept_bytes: int,
    ) -> tuple[Tensor, Tensor]:
        slices = _Slices(hidden_MH, weight_VH, bias_V, token_M, temperature, width)
        kept_bytes = kept_bytes if any(ctx.needs_input_grad) else 0
        kept = _Kept(slices.hidden_MH, weight_VH, ctx.needs_input_grad[1], kept_bytes)
        max_M = slices.hidden_MH.new_full(token_M.shape, torch.finfo(slices.hidden_MH.dtype).min)
        sum_M, moment_M = torch.zeros_like(max_M), torch.zeros_like(max_M)
        chosen_M = torch.full_like(max_M, torch.nan)
        buffer = slices.buffer(kept.tokens)
        for part in slices.parts():
            logits_MS = part.logits_MS
            chosen_M = torch.where(part.inside_M, logits_MS.gather(1, part.column_M1).squeeze(1), chosen_M)
            last_M, max_M = max_M, torch.maximum(max_M, logits_MS.amax(dim=1))
            drop_M = last_M - max_M
            moment_M.add_(sum_M * drop_M).mul_(drop_M.exp())
            sum_M.mul_(drop_M.exp())
            logits_MS.sub_(max_M[:, None])
            for tokens, exp_MS in kept.places(part.rows, max_M, buffer):
                torch.exp(logits_MS[tokens], out=exp_MS)
                sum_M[tokens] += exp_MS.sum(dim=1)
                moment_M[tokens] += logits_MS[tokens].mul_(exp_MS).sum(dim=1)
        entropy_M = sum_M.log() - moment_M / sum_M
        # the head itself, no view or copy of it: ZeRO-3 empties its data until the backward pass
        ctx.save_for_backward(hidden_MH, weight_VH, bias_V, token_M, max_M, sum_M)
        ctx.temperature, ctx.width, ctx.kept = temperature, width, kept
        ctx.mark_non_differentiable(entropy_M)
        return chosen_M - max_M - sum_M.log(), entropy_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MH, weight_VH, bias_V, token_M, max_M, sum_M = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        kept, ctx.kept = ctx.kept, None  # a second backward pass finds it overwritten
        with torch.autocast(hidden_MH.device.type, enabled=False):
            slices = _Slices(hidden_MH, weight_VH, bias_V, token_M, ctx.temperature, ctx.width)
            factor_M = -grad_M / sum_M
            factored_MH = slices.hidden_MH * factor_M[:, None]
            grad_MH = torch.zeros_like(slices.hidden_MH) if needs_hidden else None
            grad_VH = _gradient(kept, weight_VH) if needs_weight else None
            grad_V = torch.empty_like(bias_V) if needs_bias else None
            for part in slices.parts(kept.tokens if kept else 0):
                error_MS = _error(part, kept, max_M, sum_M)
                if grad_MH is not None:
                    slices.add_product(grad_MH, error_MS, part.weight_SH)
                if grad_VH is not None:
                    slices.product_into(grad_VH[part.rows], error_MS.T, factored_MH)
                if grad_V is not None:
                    grad_V[part.rows] = (error_MS.T @ factor_M).div_(ctx.temperature)
            if grad_MH is not None:
                grad_MH = grad_MH.mul_((factor_M / ctx.temperature)[:, None]).to(hidden_MH.dtype)
        return grad_MH, grad_VH, grad_V, None, None, None, None


class _Kept:
    """The exponentials of the first tokens, slice by slice, from the forward to the backward pass.

    As many tokens as the head has hidden units need no memory of their own: theirs is that of the head's gradient,
    where a slice's exponentials lie in the rows that its gradient is written to when they have been read. Further
    tokens have ``kept_bytes``. With 0 nothing is kept.
    """

    def __init__(self, hidden_MH: Tensor, weight_VH: Tensor, has_gradient: bool, kept_bytes: int) -> None:
        self.tokens = 0
        self.grad_VH: Tensor | None = None  # not yet a gradient: its memory
        self._max_M: dict[int, Tensor] = {}  # by the first row of a slice: what its exponentials are relative to
        self._places: list[tuple[slice, Tensor]] = []  # tokens, and elements of each row of the head
        tokens, size = len(hidden_MH), hidden_MH.element_size()
        if kept_bytes and has_gradient and weight_VH.is_contiguous() and not weight_VH[:1].nbytes % size:
            self.grad_VH = torch.empty_like(weight_VH)
            self._add(self.grad_VH.view(hidden_MH.dtype), tokens)
        fit = min(tokens - self.tokens, kept_bytes // (len(weight_VH) * size))
        self._add(hidden_MH.new_empty(len(weight_VH), fit), tokens)

    def _add(self, memory_VE: Tensor, tokens: int) -> None:
        end = min(tokens, self.tokens + memory_VE.shape[1])
        self._places.append((slice(self.tokens, end), memory_VE))
        self.tokens = end

    def places(self, rows: slice, max_M: Tensor, buffer: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Give which tokens have their exponentials of a slice where; the rest in a buffer, which keeps nothing."""
        self._max_M[rows.start] = max_M
        yield from self._held(rows)
        rest = slice(self.tokens, len(max_M))
        yield rest, _matrix(buffer, rest, rows)

    def restore(self, rows: slice, max_M: Tensor, exp_MS: Tensor) -> None:
        """Write a slice's kept exponentials into the first rows of ``exp_MS``, relative to the last maximum."""
        for tokens, held_MS in self._held(rows):
            rescaled_M = (self._max_M[rows.start][tokens] - max_M[tokens]).exp_()
            torch.mul(held_MS, rescaled_M[:, None], out=exp_MS[tokens])

    def _held(self, rows: slice) -> Iterator[tuple[slice, Tensor]]:
        for tokens, memory_VE in self._places:
            yield tokens, _matrix(memory_VE[rows].view(-1), tokens, rows)


def _matrix(memory: Tensor, tokens: slice, rows: slice) -> Tensor:
    """Take a matrix [tokens, rows of the head] from the start of flat memory."""
    shape = (tokens.stop - tokens.start, rows.stop - rows.start)
    return memory[: shape[0] * shape[1]].view(shape)


def _gradient(kept: _Kept | None, weight_VH: Tensor) -> Tensor:
    """Give memory for the head's gradient: that which held exponentials, if there is such."""
    if kept is None or kept.grad_VH is None:
        return torch.empty_like(weight_VH)
    return kept.grad_VH


def _error(part: _Slice, kept: _Kept | None, max_M: Tensor, sum_M: Tensor) -> Tensor:
    """Compute e - s [v = token] of a slice, in the memory of its logits, of which those of kept tokens are missing."""
    error_MS, first = part.logits_MS, kept.tokens if kept else 0
    if kept:
        kept.restore(part.rows, max_M, error_MS)
    error_MS[first:].sub_(max_M[first:, None]).exp_()
    return error_MS.scatter_add_(1, part.column_M1, -(sum_M * part.inside_M)[:, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    rows: slice  # of the head
    weight_SH: Tensor
    logits_MS: Tensor  # over the temperature; whoever reads them may write over them
    column_M1: Tensor  # of each token; some column of the slice where the token lies outside
    inside_M: Tensor  # whether the token lies in the slice


class _Slices:
    """The vocabulary slice by slice, the logits of each in the memory of the one before.

    The temperature divides hidden state [M, H] and bias [V] once, in place of every slice of logits.
    """

    def __init__(
        self,
        hidden_MH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        token_M: Tensor,
        temperature: float,
        width: int,
    ) -> None:
        dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
        self.hidden_MH = _divided(hidden_MH.to(dtype), temperature)
        self._in_parts = dtype == torch.float32 and parts_pay(hidden_MH.device)
        exact = self._in_parts and temperature == 1.0  # then a bf16 hidden state is its own only part
        self._left_MH = hidden_MH if exact else self.hidden_MH
        self._bias_V = None if bias_V is None else _divided(bias_V.to(dtype), temperature)
        self._weight_VH = weight_VH
        self._token_M = token_M
        self._width = width

    def buffer(self, first: int = 0) -> Tensor:
        """Room for one slice's logits of the tokens from ``first`` on."""
        return self.hidden_MH.new_empty((len(self.hidden_MH) - first) * self._width)

    def parts(self, first: int = 0) -> Iterator[_Slice]:
        """Give each slice, with the logits of the tokens from ``first`` on; those before it may be anything."""
        buffer = self.buffer()
        for start in range(0, len(self._weight_VH), self._width):
            rows = slice(start, min(start + self._width, len(self._weight_VH)))
            weight_SH = self._weight_VH[rows]
            weight_SH = weight_SH if self._in_parts else weight_SH.to(self.hidden_MH.dtype)
            shape = (len(self.hidden_MH), len(weight_SH))
            logits_MS = buffer[: shape[0] * shape[1]].view(shape)
            if first == len(self.hidden_MH):
                pass  # all of them are known
            elif self._in_parts:
                torch.add(
                    product_of_parts(self._left_MH[first:], weight_SH.T),
                    0.0 if self._bias_V is None else self._bias_V[rows],
                    out=logits_MS[first:],
                )
            elif self._bias_V is None:
                torch.mm(self.hidden_MH[first:], weight_SH.T, out=logits_MS[first:])
            else:
                torch.addmm(self._bias_V[rows], self.hidden_MH[first:], weight_SH.T, out=logits_MS[first:])
            column_M = self._token_M - start
            yield _Slice(
                rows=rows,
                weight_SH=weight_SH,
                logits_MS=logits_MS,
                column_M1=column_M.clamp(0, shape[1] - 1)[:, None],
                inside_M=(column_M >= 0) & (column_M < shape[1]),
            )

    def add_product(self, out: Tensor, left: Tensor, right: Tensor) -> None:
        """Add left @ right to out."""
        if self._in_parts:
            out.add_(product_of_parts(left, right))
        else:
            out.addmm_(left, right)

    def product_into(self, out: Tensor, left: Tensor, right: Tensor) -> None:
        """Set out = left @ right, computed in their precision even where out has less."""
        if self._in_parts:
            out.copy_(product_of_parts(left, right))
        elif out.dtype == left.dtype:
            torch.mm(left, right, out=out)
        else:
            out.copy_(left @ right)


def _divided(value: Tensor, temperature: float) -> Tensor:
    return value if temperature == 1.0 else value / temperature
