"""Models with an adapter inside: what they are as a whole, and what of them learns.

The layers are known by what peft's LoRA layers have: ``base_layer``, the frozen linear map that was in their place, and
``lora_A``, ``lora_B`` and ``scaling`` by the adapter's name. W + scaling B A is the whole weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from gatepo.model import body_and_head

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "default"  # of the one adapter
BASE = "base_layer"
Gathered = Callable[[list["nn.Parameter"]], AbstractContextManager[object]]


def layers(model: nn.Module) -> dict[str, Any]:
    """Give the layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def whole_weight(layer: Any) -> Tensor:
    """Give the weight of a linear map, with its adapter's share, if it has one, added in fp32; no tensor changes."""
    weight: Tensor = layer.weight.detach()
    if not hasattr(layer, "lora_A"):
        return weight
    up, down = (getattr(layer, part)[NAME].weight.detach().float() for part in ("lora_B", "lora_A"))
    with torch.autocast(weight.device.type, enabled=False):
        return torch.addmm(weight.float(), up, down, alpha=layer.scaling[NAME])


def whole_weights(model: nn.Module, gathered: Gathered = lambda parts: nullcontext()) -> Iterator[tuple[str, Tensor]]:
    """Give the weights of the model that it would be without an adapter and with the same outputs, one at a time.

    Args:
      model: with an adapter, or without one: then its parameters as they are.
      gathered: makes sharded parameters whole for a while.
    """
    found = layers(model)
    own = {name for prefix in found for name in _of_adapter(prefix, found[prefix])}
    weights = {f"{prefix}.{BASE}.weight": layer for prefix, layer in found.items()}
    for name, parameter in model.named_parameters():
        if name in own:
            continue
        layer = weights.get(name)
        beside = [] if layer is None else [layer.lora_A[NAME].weight, layer.lora_B[NAME].weight]
        with gathered([parameter, *beside]):
            yield name.replace(f".{BASE}.", "."), parameter if layer is None else whole_weight(layer)


def adapter_weights(model: nn.Module, gathered: Gathered = lambda parts: nullcontext()) -> Iterator[tuple[str, Tensor]]:
    """Give the adapter's own weights, by their names in the model, one at a time."""
    for prefix, layer in layers(model).items():
        for name, parameter in _of_adapter(prefix, layer).items():
            with gathered([parameter]):
                yield name, parameter.detach()


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Give what a checkpoint holds of the model's state: all of it, or the adapter alone where there is one."""
    found = layers(model)
    return dict(adapter_weights(model)) if found else model.state_dict()


def whole_state(model: PreTrainedModel, weights: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Collect whole weights on the CPU, to be written: in the model's own precision, and tied ones by each name."""
    state = {name: tensor.detach().to("cpu", model.dtype, copy=True) for name, tensor in weights}
    for own, alias in (model.all_tied_weights_keys or {}).items():
        state.setdefault(own, state[alias])
    return state


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """Let the model be what it was before it had an adapter, for a while."""
    scales = [(layer.scaling, layer.scaling[NAME]) for layer in layers(model).values()]
    for scaling, _ in scales:
        scaling[NAME] = 0.0  # and not left out: ZeRO-3 wants the same modules in the same order
    try:
        yield
    finally:
        for scaling, scale in scales:
            scaling[NAME] = scale


@contextmanager
def dropout(model: nn.Module, update: int, rank: int) -> Iterator[None]:
    """Let the dropout of an adapter be at work, if it has any; seed, update and rank decide what is dropped."""
    drops = [layer.lora_dropout[NAME] for layer in layers(model).values() if getattr(layer.lora_dropout[NAME], "p", 0)]
    if not drops:
        yield
        return
    digest = hashlib.blake2b(f"dropout {drops[0].seed} {update} {rank}".encode(), digest_size=8).digest()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(int.from_bytes(digest, "little") >> 1)
        for module in drops:
            module.training = True
        try:
            yield
        finally:
            for module in drops:
                module.training = False


def keep_frozen_cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Keep the frozen linear maps of the body, beneath an adapter, as autocast would cast them for each pass.

    The same numbers come out, in half the memory; norms, embedding and head are not cast by autocast, and stay.
    """
    if dtype == torch.float32 or not layers(model):
        return
    for module in body_and_head(model)[0].modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    for layer in layers(model).values():
        layer.cast_input_dtype_enabled = False  # autocast casts inputs already, once


def _of_adapter(prefix: str, layer: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": p for name, p in layer.named_parameters() if not name.startswith(f"{BASE}.")}
