"""Sampling with a plain decode loop over any causal language model of transformers.

The prompt of a group is read once and its cache repeated for the G completions; a small model is decoded by
:mod:`gatepo.rollout.lean`. Each completion draws from its own
stream of uniform numbers, by inverse transform of the cumulative distribution, so a sample does not depend on what
else is in the batch (up to the floating point of differently shaped matrix products).

Axes: P prompts, N = P * G completions still running, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from gatepo.model import autocast, for_generation, logits
from gatepo.rollout.base import RolloutEngine, RolloutOption, RolloutParts, completion_seed
from gatepo.rollout.fingerprint import Held, fingerprint
from gatepo.rollout.lean import LeanDecoder, fits
from gatepo.settings import option
from gatepo.signals import stop_if_asked
from gatepo.types import Completion, Group, Prompt, Sampling

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gatepo.rollout.cache import CachedDecoder


@option("rollout", "transformers")
class Transformers(RolloutOption):
    """A decode loop over any causal language model of transformers, which may share the weights of the trainer."""

    def make(self, parts: RolloutParts) -> RolloutEngine:
        """See :class:`~gatepo.rollout.base.RolloutOption`."""
        assert parts.module is not None
        return TransformersRollout(parts.module, parts.tokenizer, self.max_sequences, parts.dtype)


class TransformersRollout:
    """Decodes with ``model`` itself; where the trainer owns the same module, syncing weights is free.

    Args:
      model: any causal language model; put in eval mode while it decodes.
      tokenizer: its tokenizer; its end and padding tokens end and fill completions.
      max_sequences: completions that are decoded at once; prompts beyond it wait.
      dtype: what the body computes in.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_sequences: int,
        dtype: torch.dtype,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_sequences = max_sequences
        self._dtype = dtype
        self._version = 0
        self._lean = fits(model, dtype)
        end = model.generation_config.eos_token_id
        ends = end if isinstance(end, list) else [end]
        self._end_ids = sorted({e for e in (*ends, tokenizer.eos_token_id) if e is not None})

    def generate(self, prompts: list[Prompt], sampling: Sampling, seed: int) -> list[Group]:
        """See :class:`~gatepo.rollout.base.RolloutEngine`."""
        at_once = max(1, self._max_sequences // sampling.num_generations)
        groups: list[Group] = []
        with for_generation(self._model), torch.inference_mode(), autocast(self._model.device, self._dtype):
            for first in range(0, len(prompts), at_once):
                groups += self._generate(prompts[first : first + at_once], sampling, seed)
        return groups

    def logprobs(self, sequences: list[list[int]]) -> list[list[float]]:
        """See :class:`~gatepo.rollout.sync.Sampler`; the sequences are equally long."""
        ids_NT = torch.tensor(sequences, device=self._model.device)
        with for_generation(self._model), torch.inference_mode(), autocast(self._model.device, self._dtype):
            logits_NTV = logits(self._model, input_ids=ids_NT, use_cache=False)[:, :-1]
        logp_NTV = torch.log_softmax(logits_NTV, dim=-1)
        return logp_NTV.gather(2, ids_NT[:, 1:, None]).squeeze(2).tolist()

    @property
    def weights_dtype(self) -> torch.dtype:
        """See :class:`~gatepo.rollout.sync.Sampler`."""
        return next(self._model.parameters()).dtype

    def held(self) -> list[Held]:
        """See :class:`~gatepo.rollout.sync.Sampler`."""
        dtype = self.weights_dtype
        return [Held(parts=(name,), found=fingerprint(own, dtype)) for name, own in self._model.named_parameters()]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copy every tensor that is not the model's own already."""
        own = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, tensor in weights:
                if own[name].data_ptr() != tensor.data_ptr():
                    own[name].copy_(tensor)
        self._version = version

    def sleep(self) -> None:
        """Nothing to give back: the weights are the trainer's and the cache lives for one call."""

    def wake(self) -> None:
        """See :meth:`sleep`."""

    def close(self) -> None:
        """Nothing to release."""

    def _generate(self, prompts: list[Prompt], sampling: Sampling, seed: int) -> list[Group]:
        device = self._model.device
        G = sampling.num_generations
        token_NT, logp_NT = self._decode(
            [p.token_ids for p in prompts],
            _uniforms(prompts, sampling, seed).to(device),
            sampling,
        )
        groups = []
        for p, prompt in enumerate(prompts):
            members = zip(token_NT[p * G : (p + 1) * G].tolist(), logp_NT[p * G : (p + 1) * G].tolist(), strict=True)
            groups.append(Group(prompt=prompt, completions=tuple(self._completion(ids, logp) for ids, logp in members)))
        return groups

    def _decode(self, prompts: list[tuple[int, ...]], uniform_NT: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Sample ids [N, T], padded with -1 behind the end token, and their log-probabilities."""
        device = self._model.device
        limit = sampling.max_completion_length
        decoder = self._decoder()
        logits_NV = decoder.start(prompts, sampling.num_generations, limit)
        N = len(logits_NV)
        token_NT = torch.full((N, limit), -1, device=device)
        logp_NT = torch.zeros((N, limit), device=device)
        running_N = torch.arange(N, device=device)  # rows of the result that are still being decoded
        going_N = torch.ones_like(running_N, dtype=torch.bool)  # False from the end token on
        ends = torch.tensor(self._end_ids, device=device)
        for t in range(limit):
            stop_if_asked()
            token_N, logp_N = sample(logits_NV, uniform_NT[running_N, t], sampling.temperature)
            token_NT[running_N, t] = token_N
            logp_NT[running_N, t] = logp_N
            going_N = going_N & ~torch.isin(token_N, ends)
            if t == limit - 1 or not going_N.any():
                break
            # Finished rows are dropped a quarter at a time: often enough to save their work, seldom enough that
            # copying the cache does not cost more.
            if going_N.sum() <= 0.75 * len(going_N):
                kept = going_N.nonzero().squeeze(1)
                decoder.keep(kept)
                running_N, token_N, going_N = running_N[kept], token_N[kept], going_N[kept]
            logits_NV = decoder.step(token_N)
        return _cut_behind_end(token_NT, ends), logp_NT

    def _decoder(self) -> LeanDecoder | CachedDecoder:
        if self._lean:
            return LeanDecoder(self._model)
        from gatepo.rollout.cache import CachedDecoder  # and with it transformers, slow to import

        return CachedDecoder(self._model, self._tokenizer.pad_token_id)

    def _completion(self, padded_ids: list[int], logp: list[float]) -> Completion:
        ids = [i for i in padded_ids if i >= 0]
        finished = ids[-1] in self._end_ids
        text = self._tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=False)
        return Completion(
            token_ids=tuple(ids),
            text=text,
            finished=finished,
            policy_version=self._version,
            sampler_logp=tuple(logp[: len(ids)]),
        )


def sample(logits_NV: Tensor, uniform_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverse transform: the first token whose cumulative probability exceeds u.

    Args:
      logits_NV: unscaled.
      uniform_N: in [0, 1), float64. One number per row and token decides everything.
      temperature: of the sampler; logits are divided by it.
    Returns: (token [N], its log-probability [N] in nats, fp32).
    """
    logp_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    cumulative_NV = logp_NV.double().exp().cumsum(dim=-1)
    # Rounding may leave the total a little off 1: scale u by it, so that no token beyond the last can be drawn.
    token_N1 = torch.searchsorted(cumulative_NV, uniform_N[:, None] * cumulative_NV[:, -1:], right=True)
    token_N1 = token_N1.clamp(max=logits_NV.shape[-1] - 1)
    return token_N1.squeeze(1), logp_NV.gather(1, token_N1).squeeze(1)


def _uniforms(prompts: list[Prompt], sampling: Sampling, seed: int) -> Tensor:
    """Draw one stream of ``max_completion_length`` uniform numbers per completion, [N, T] float64."""
    generator = torch.Generator()
    rows = []
    for prompt in prompts:
        for member in range(sampling.num_generations):
            generator.manual_seed(completion_seed(seed, prompt.index, member))
            rows.append(torch.rand(sampling.max_completion_length, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def _cut_behind_end(token_NT: Tensor, ends: Tensor) -> Tensor:
    """Put -1 behind each row's first end token: rows go on being decoded until they are dropped."""
    ended_NT = torch.isin(token_NT, ends).cumsum(dim=1)
    behind_NT = (ended_NT - torch.isin(token_NT, ends).long()) > 0
    return token_NT.masked_fill(behind_NT, -1)
