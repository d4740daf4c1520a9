"""A prompt that goes through the model once for its group gives what it gives row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from gatepo.engine import lean, passes, repeated_heads
from gatepo.engine.policy import Policy
from gatepo.engine.shared_prompts import SHORT, can_share, hidden_states, layout_of
from gatepo.model import attending_by, checkpoint_activations
from gatepo.types import TokenBatch

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SHARED = {
    "Qwen2": Qwen2Config(**SMALL),
    "Qwen2, tied": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "Qwen2, every head its own keys": Qwen2Config(**(SMALL | {"num_key_value_heads": 4})),
    "Qwen3": Qwen3Config(**SMALL, head_dim=16),
    "Llama": LlamaConfig(**SMALL),
    "Llama 3's positions, biases": LlamaConfig(
        **SMALL, rope_parameters=LLAMA3 | {"original_max_position_embeddings": 64}, attention_bias=True, mlp_bias=True
    ),
    "Gemma": GemmaConfig(**SMALL, head_dim=8),
}
NOT_SHARED = {
    "a sliding window": MistralConfig(**SMALL, sliding_window=8),
    "windows in some layers": Qwen2Config(**SMALL, use_sliding_window=True, max_window_layers=1, sliding_window=8),
}
# Prompt length, completion length; rows of one group follow each other.
GROUPS = {
    "unequal": [[(5, 7), (5, 4), (5, 1)], [(3, 9), (3, 1)], [(7, 4)]],
    "equal": [[(4, 6), (4, 6)], [(4, 6), (4, 6)]],
    "single tokens": [[(1, 1), (1, 1)], [(2, 1)]],
    "alone": [[(6, 5)]],
    "long": [[(SHORT // 2, SHORT), (SHORT // 2, 3)]],
}


@pytest.fixture(autouse=True)
def by_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every layer computed by its own modules; tests/test_lean_training.py has those that are not."""
    monkeypatch.setattr(lean, "fits", lambda model, layout: False)


@pytest.fixture(params=SHARED)
def model(request: pytest.FixtureRequest) -> Iterator[PreTrainedModel]:
    yield made(SHARED[request.param])


def made(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rows_of(groups: list[list[tuple[int, int]]]) -> tuple[Tensor, Tensor]:
    """Ids, with garbage in the padding, and where the completions are."""
    shapes = [shape for group in groups for shape in group]
    width = max(prompt + completion for prompt, completion in shapes)
    ids_NT = torch.randint(97, (len(shapes), width), generator=torch.Generator().manual_seed(1))
    completion_NT = torch.zeros_like(ids_NT, dtype=torch.bool)
    row = 0
    for group in groups:
        first = row
        for prompt, completion in group:
            ids_NT[row, :prompt] = ids_NT[first, :prompt]
            completion_NT[row, prompt : prompt + completion] = True
            row += 1
    return ids_NT, completion_NT


def logps_and_gradients(
    model: PreTrainedModel, rows: tuple[Tensor, Tensor], shares: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    policy = Policy(model, 0.9, torch.float32)  # no autocast
    assert policy.shares_prompts
    policy.shares_prompts = shares
    model.zero_grad(set_to_none=True)
    logp_NT, entropy_NT = policy(*rows)
    weight_NT = torch.randn(logp_NT.shape, generator=torch.Generator().manual_seed(2)).to(logp_NT.dtype)
    (logp_NT * weight_NT).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logp_NT.detach(), entropy_NT, gradients


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_it_is_what_the_rows_one_by_one_give(model: PreTrainedModel, groups: list[list[tuple[int, int]]]) -> None:
    rows = rows_of(groups)
    exact_NT, entropies_NT, wanted = logps_and_gradients(model.double(), rows, shares=False)
    logp_NT, entropy_NT, gradients = logps_and_gradients(model.float(), rows, shares=True)
    assert (logp_NT - exact_NT).abs().max() < 1e-5
    assert (entropy_NT - entropies_NT).abs().max() < 1e-5
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).norm() <= 2e-5 * wanted[name].norm() + 1e-6, name


def test_each_token_goes_through_the_model_once(model: PreTrainedModel) -> None:
    layout = layout_of(*rows_of(GROUPS["unequal"]))
    prompts, completions = 5 + 3 + 7, 6 + 3 + 0 + 8 + 0 + 3  # the last token of a completion predicts nothing
    assert len(layout.ids_M) == prompts + completions
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    hidden_states(model, layout)
    assert seen == [(1, prompts + completions)]


def test_equal_prompts_of_two_groups_apart_are_two_prompts() -> None:
    ids_NT, completion_NT = rows_of([[(3, 2)], [(3, 2)], [(3, 2)]])
    ids_NT[2, :3] = ids_NT[0, :3]
    assert layout_of(ids_NT, completion_NT).prompt_N.tolist() == [0, 1, 2]
    ids_NT[1, :3] = ids_NT[0, :3]
    assert layout_of(ids_NT, completion_NT).prompt_N.tolist() == [0, 0, 0]


def test_prompts_that_differ_in_their_last_token_alone_are_two(model: PreTrainedModel) -> None:
    """As two questions within one chat template do."""
    ids_NT, completion_NT = rows_of([[(6, 3), (6, 3)], [(6, 3), (6, 3)]])
    ids_NT[2:, :5] = ids_NT[0, :5]
    assert layout_of(ids_NT, completion_NT).prompt_N.tolist() == [0, 0, 1, 1]
    exact_NT, _, _ = logps_and_gradients(model.double(), (ids_NT, completion_NT), shares=False)
    logp_NT, _, _ = logps_and_gradients(model.float(), (ids_NT, completion_NT), shares=True)
    assert (logp_NT - exact_NT).abs().max() < 1e-5


@pytest.mark.parametrize("config", NOT_SHARED.values(), ids=NOT_SHARED)
def test_a_model_that_looks_back_less_far_is_read_row_by_row(config: PreTrainedConfig) -> None:
    model = made(config)
    assert not can_share(model)
    ids_NT, completion_NT = rows_of(GROUPS["unequal"])
    logp_NT, _ = Policy(model, 1.0, torch.float32)(ids_NT, completion_NT)
    wanted_NTV = model(input_ids=ids_NT).logits[:, :-1].log_softmax(dim=-1)
    wanted_NT = wanted_NTV.gather(2, ids_NT[:, 1:, None]).squeeze(2)
    assert (logp_NT - wanted_NT)[completion_NT[:, 1:]].abs().max() < 1e-5


def test_what_is_not_known_to_be_right_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a model whose positions do not come from ``position_ids`` alone."""
    model = made(SHARED["Llama"])
    body = model.get_decoder()
    plain = body.forward
    monkeypatch.setattr(body, "forward", lambda position_ids=None, **inputs: plain(**inputs))
    assert not can_share(model)


def test_other_positions_than_rotary_ones_are_right_too() -> None:
    model = made(
        GPTNeoXConfig(
            **{name: value for name, value in SMALL.items() if name != "num_key_value_heads"}, rotary_pct=0.25
        )
    )
    rows = rows_of(GROUPS["unequal"])
    exact_NT, _, _ = logps_and_gradients(model.double(), rows, shares=False)
    logp_NT, _, _ = logps_and_gradients(model.float(), rows, shares=True)
    assert (logp_NT - exact_NT).abs().max() < 1e-5


def test_activation_checkpointing_changes_nothing(model: PreTrainedModel) -> None:
    rows = rows_of(GROUPS["unequal"])
    logp_NT, _, gradients = logps_and_gradients(model, rows, shares=True)
    checkpoint_activations(model)
    again_NT, _, same = logps_and_gradients(model, rows, shares=True)
    assert torch.equal(logp_NT, again_NT)
    assert all(torch.allclose(gradients[name], same[name], atol=1e-6) for name in gradients)


def test_a_micro_batch_holds_whole_groups() -> None:
    ids_NT, completion_NT = rows_of([[(5, 1), (5, 9)], [(3, 4), (3, 5)], [(2, 12), (2, 1)]])
    N = len(ids_NT)
    batch = TokenBatch(
        ids_NT=ids_NT,
        completion_NT=completion_NT,
        attention_NT=completion_NT | (completion_NT.cumsum(dim=1) == 0),
        advantage_N=torch.ones(N),
        group_N=torch.tensor([70, 70, 10, 10, 40, 40]),
        sampler_logp_NT=torch.zeros(ids_NT.shape),
    )
    parts = passes.micro_batches(batch, torch.ones(N, dtype=torch.bool), 2, shares_prompts=True)
    assert [part.rows_N.tolist() for part in parts] == [[0, 1], [4, 5], [2, 3]]
    assert sum(len(layout_of(*_cut(batch, part.rows_N)).ids_M) for part in parts) == 5 + 8 + 2 + 11 + 3 + 3 + 4


def batch_of(groups: list[list[tuple[int, int]]]) -> TokenBatch:
    ids_NT, completion_NT = rows_of(groups)
    return TokenBatch(
        ids_NT=ids_NT,
        completion_NT=completion_NT,
        attention_NT=completion_NT | (completion_NT.cumsum(dim=1) == 0),
        advantage_N=torch.ones(len(ids_NT)),
        group_N=torch.tensor([n for n, group in enumerate(groups) for _ in group]),
        sampler_logp_NT=torch.zeros(ids_NT.shape),
    )


# Tokens, prompt + completion: 5 + 9, 5 + 7, 5 + 1; then 3 + 6, 3 + 6; then 2 + 1.
TOKENS = [[(5, 1), (5, 9), (5, 7)], [(3, 6), (3, 6)], [(2, 1)]]


@pytest.mark.parametrize(
    ("micro", "tokens", "shares", "expected"),
    [
        # each prompt once: 5 + 1 + 9 + 7 = 22, then 3 + 6 + 6 and 2 + 1 = 18
        (6, 22, True, [[0, 1, 2], [3, 4, 5]]),
        (6, 21, True, [[0, 1], [2, 3], [4, 5]]),  # 15; 5 + 7 + 3 + 6 = 21; 3 + 6 + 2 + 1 = 12
        (2, 22, True, [[0, 1], [2, 3], [4, 5]]),  # both bounds hold
        (6, 40, True, [[0, 1, 2, 3, 4, 5]]),
        (6, 1, True, [[0], [1], [2], [3], [4], [5]]),  # what is longer than the bound runs alone
        # rows as wide as the longest: 2 x 14, 2 x 9, 6 and 3 in one
        (6, 28, False, [[1, 2], [3, 4, 0], [5]]),
        (6, 13, False, [[1], [2], [3], [4], [0, 5]]),
        (1, 28, False, [[1], [2], [3], [4], [0], [5]]),
    ],
)
def test_a_micro_batch_holds_as_many_tokens_as_it_may(
    micro: int, tokens: int, shares: bool, expected: list[list[int]]
) -> None:
    batch = batch_of(TOKENS)
    parts = passes.micro_batches(batch, torch.ones(6, dtype=torch.bool), micro, shares, tokens)
    assert [part.rows_N.tolist() for part in parts] == expected


def test_completions_that_learn_share_no_micro_batch_with_those_that_do_not() -> None:
    learns_N = torch.tensor([True, True, True, False, False, True])
    parts = passes.micro_batches(batch_of(TOKENS), learns_N, 6, True, 100)
    assert [(part.rows_N.tolist(), part.learns) for part in parts] == [([0, 1, 2, 5], True), ([3, 4], False)]


def _cut(batch: TokenBatch, rows_N: Tensor) -> tuple[Tensor, Tensor]:
    cut = batch.rows(rows_N)
    return cut.ids_NT, cut.completion_NT


@pytest.mark.parametrize("name", ["Qwen2", "Qwen2, every head its own keys", "Qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_repeated_heads_attend_as_grouped_ones_do(name: str, dtype: torch.dtype) -> None:
    """Hidden states and gradients; on a GPU the kernel alone is another. No GPU has run it yet."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(SHARED[name], attn_implementation="sdpa").to(dtype)
    ids_NT = torch.randint(0, 97, (3, 11))
    found = []
    for way in (model.config._attn_implementation, repeated_heads.NAME):
        model.zero_grad()
        with attending_by(model, way):
            hidden_NTH = model.get_decoder()(input_ids=ids_NT, use_cache=False).last_hidden_state
        hidden_NTH.float().square().mean().backward()
        found.append([hidden_NTH.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * one.abs().max().item())
    assert repeated_heads.pays(model) is torch.cuda.is_available()
