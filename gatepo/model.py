"""Loading a causal language model and its tokenizer, and taking it apart into body and head."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from gatepo import hub, tiny
from gatepo.errors import UserError
from gatepo.manifest import digest
from gatepo.memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STORED = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}  # safetensors' and torch's names
# Whose layers are written anew in fewer operations, for decoding and for training.
LEAN_KINDS = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM")


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer at ``path`` (a folder, a hub name, or ``tiny``), with a padding token in any case."""
    from transformers import AutoTokenizer  # slow to import, here and below

    try:
        tokenizer = AutoTokenizer.from_pretrained(_located(path), trust_remote_code=False)  # None would ask
    except Exception as error:  # of a folder that somebody else made, anything may be wrong
        raise _no_model(path, error) from error
    if not Path(tiny.locate(path)).exists():
        hub.say_what_was_taken("model", path)
    if len(tokenizer) == 0:
        raise UserError(f"model.path={path} has no tokenizer files; put them beside the model")
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"model.path={path}: its tokenizer has no end token; set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere, so which token it is does not matter
    return tokenizer


def load_model(
    path: str, device: torch.device, attention: str | None, dtype: torch.dtype | Literal["stored"] | None = None
) -> PreTrainedModel:
    """Load the model at ``path``, in eval mode: dropout would make the ratio noisy at r = 1.

    Its files are mapped into memory in the precision that they have, which copies nothing, and :func:`place` then takes
    one weight after the other: a host never holds the whole model for a GPU, and its ranks share what they read.

    Args:
      path: a folder, a hub name, or ``tiny``.
      device: where the weights go.
      attention: transformers' ``attn_implementation``; None lets it choose.
      dtype: of the weights; None is float32, and "stored" what the files have.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one line per rank and model would bury everything else
    try:
        located = _located(path)
        stored = _stored_dtype(located)
        model, seen = AutoModelForCausalLM.from_pretrained(
            located,
            dtype=stored,
            attn_implementation=attention,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if attention is not None and "attn_implementation" in str(error):
            raise UserError(
                f"model.attention must be an implementation that {path} has, got {attention}; leave it out"
            ) from error
        raise _no_model(path, error) from error
    _require_all_weights(path, seen["missing_keys"])
    place(model, device, stored if dtype == "stored" else dtype or torch.float32).eval()
    _check_head(model)
    return model


def place(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Bring a model to a device and its weights to a precision, one after the other; buffers keep their precision.

    ``model.to(dtype)`` would cast the frequencies of rotary positions too, whose rounding turns them: in bf16 the KL
    divergence of identical weights was then 0.28 nats per token at 2,000 tokens, where rounding alone makes 0.006.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device).to(dtype)
    model.config.dtype = dtype
    return model.to(device)


def _stored_dtype(path: str) -> torch.dtype:
    """Give the widest precision of the weights in the files of a model; fp32 where they are not safetensors."""
    from safetensors import safe_open
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
    from transformers.utils.hub import get_checkpoint_shard_files

    found = [cached_file(path, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False)]
    if found == [None]:
        index = cached_file(path, SAFE_WEIGHTS_INDEX_NAME, _raise_exceptions_for_missing_entries=False)
        found = [] if index is None else get_checkpoint_shard_files(path, index)[0]
    names = set()
    for file in found:
        with safe_open(file, framework="pt") as weights:
            names |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118, it is no dict
    known = [getattr(torch, dtype) for name, dtype in STORED.items() if name in names]
    return reduce(torch.promote_types, known) if known else torch.float32


def content(path: str) -> str:
    """Say what the model at ``path`` is, whatever it is called: the SHA-256 of its files, or its commit on the hub."""
    from transformers.utils import cached_file

    folder = Path(tiny.locate(path))
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        lines = "".join(f"{digest(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    try:
        return Path(str(cached_file(_located(path), "config.json"))).parent.name
    except (OSError, ValueError) as error:
        raise _no_model(path, error) from error


def context_length(path: str) -> int | None:
    """Give the most tokens the model at ``path`` can read, or None where its configuration does not say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(_located(path), trust_remote_code=False)
    except Exception as error:
        raise _no_model(path, error) from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_lengths(path: str, asked: int) -> None:
    """Refuse prompts and completions that together are longer than the context of the model at ``path``.

    Raises:
      UserError: the context, and what was asked, in tokens.
    """
    context = context_length(path)
    if context is not None and asked > context:
        raise UserError(
            f"sampling.max_prompt_length + sampling.max_completion_length must be at most the model's "
            f"context of {context} tokens, got {asked}; lower one of them"
        )


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute the body in ``dtype`` while the weights stay fp32; a no-op for fp32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute each layer's activations again in the backward pass.

    transformers does so in training mode only: that is set on the layers themselves, not on what is inside them, so
    that no dropout comes alive.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    def as_now() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), attending_by(model, model.config._attn_implementation)

    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": as_now})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


@contextmanager
def attending_by(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Let the model use another of transformers' attention functions for a while."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = implementation
    try:
        yield
    finally:
        model.config._attn_implementation = usual


@contextmanager
def for_generation(model: PreTrainedModel) -> Iterator[None]:
    """Put every module in eval mode, where caches work and nothing is random; then back as it was."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    yield
    for module in training:
        module.training = True


def body_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Linear]:
    """Give the part that gives hidden states, and the linear map from them to logits."""
    return model.get_decoder(), model.get_output_embeddings()


def logits(model: PreTrainedModel, last: bool = False, **inputs: Any) -> Tensor:
    """Compute the logits [N, T, V], or [N, 1, V] of the ``last`` position; the head is in fp32 even under bf16."""
    body, head = body_and_head(model)
    hidden_NTH = body(**inputs).last_hidden_state
    with torch.autocast(hidden_NTH.device.type, enabled=False):
        found: Tensor = head((hidden_NTH[:, -1:] if last else hidden_NTH).to(head.weight.dtype))
    return found.float()


def _require_all_weights(path: str, missing: Collection[str]) -> None:
    """Refuse a model of which transformers drew some weights at random, because its files have them not."""
    if missing:
        raise UserError(
            f"model.path={path} must hold all weights of its model, got {len(missing)} missing, {min(missing)} among "
            "them; copy it anew, or choose another"
        )


def _check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose logits are more than head(body(x)), such as scaled or soft-capped ones."""
    body, head = body_and_head(model)
    ids = torch.arange(2, device=model.device)[None]
    with torch.no_grad(), attending_by(model, "eager"):  # which runs in any precision and on any device
        whole: Tensor = model(input_ids=ids).logits
        parts: Tensor = head(body(input_ids=ids).last_hidden_state)
    if not torch.allclose(whole, parts, rtol=1e-4, atol=1e-4):
        raise UserError(
            f"model.path={model.name_or_path}: {type(model).__name__} changes its logits behind the head (scaling or "
            "soft-capping), which the log-probabilities here do not include; choose a model without it"
        )


def _located(path: str) -> str:
    """Find what transformers is to load; of the hub, it is there or in the cache."""
    found = tiny.locate(path)
    hub.require_model(found)
    return found


def _no_model(path: str, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    if not Path(tiny.locate(path)).exists() and not (answer := hub.ask("model", path)).is_there:
        return hub.no_model(path, answer.words)
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason:
        return UserError(
            f"model.path={path} must be a model that transformers knows, got one with code of its own (auto_map), "
            "which gatepo never runs; choose another"
        )
    what = "has no model that transformers can load" if Path(path).is_dir() else "is neither a folder nor on the hub"
    return UserError(
        f"model.path={path} {what}; give a folder with config.json and weights, or a hub name ({reason[:200]})"
    )
