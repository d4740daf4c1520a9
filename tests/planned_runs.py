"""Small models and runs whose plan can be worked out by hand, and what a plan says of them."""

from dataclasses import replace

import torch
from composed import typed

from gatepo.plan import cost, resolve
from gatepo.plan.shape import ModelShape, model_shape
from gatepo.plan.work import Layout, Workload

SIZES = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 200,
    "vocab_size": 50,
}
FP32 = Layout(dtype="float32", weights=4)
BF16 = Layout(dtype="bfloat16", weights=2, master=4)
AUTOCAST = Layout(dtype="bfloat16", weights=4, autocast=True)
PAPER = Workload(
    prompts=16,
    num_generations=8,
    iterations=2,
    updates=5000,
    devices=8,
    micro=1,
    max_sequences=256,
    prompt_length=1536,
    completion_length=512,
)
# One layer. Matrices: 4 x (2 x 4 + 2 x 2) attention + 3 x 4 x 8 MLP = 144; head 10 x 4 = 40.
# Parameters: 144 + 2 norms of 4 + the last norm of 4 + 2 x 40 = 236.
SMALL = ModelShape(hidden=4, layers=1, heads=2, kv_heads=1, head_dim=2, intermediate=8, vocabulary=10, tied=False)
# 2 prompts of 3 tokens, 2 completions of 2 tokens for each, on one device, two completions at once
WORK = replace(PAPER, prompts=2, num_generations=2, devices=1, micro=2, prompt_length=3, completion_length=2)


def bytes_of(shape: ModelShape, work: Workload, layout: Layout) -> dict[str, tuple[float, float]]:
    return {part.name: (part.sampling, part.learning) for part in cost.memory(shape, work, layout)}


def host_of(shape: ModelShape, work: Workload, layout: Layout) -> dict[str, tuple[float, float, float]]:
    return {part.name: (part.starting, part.sampling, part.learning) for part in cost.host_memory(shape, work, layout)}


def planned(overrides: tuple[str, ...]) -> tuple[ModelShape, Workload, Layout]:
    settings = typed("+experiment=paper/erf", *overrides)
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    return shape, work, resolve.layout(settings, shape, work)


def saved_bytes(model: torch.nn.Module, ids_NT: torch.Tensor, autocasts: bool) -> int:
    """Bytes that a forward pass of the body saves for the backward pass, each storage once, and no weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if ids_NT.numel() in tensor.shape or ids_NT.shape[1] in tensor.shape:  # a cast of a weight has no tokens
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocasts),
    ):
        model.get_decoder()(input_ids=ids_NT, use_cache=False)
    return sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in own)
