"""The lean decoder computes what transformers' model does, for every kind of model that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_shared_prompts import SHARED, SMALL
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from gatepo.rollout import lean
from gatepo.rollout.cache import CachedDecoder
from gatepo.rollout.lean import LeanDecoder, fits
from gatepo.rollout.transformers import TransformersRollout
from gatepo.types import Prompt, Sampling

TAKEN = {name: config for name, config in SHARED.items() if name != "Gemma"}
NOT_TAKEN: dict[str, PreTrainedConfig] = {
    "another kind": GemmaConfig(**SMALL, head_dim=8),
    "another activation": LlamaConfig(**SMALL, hidden_act="gelu"),
    "windows": Qwen2Config(**SMALL, use_sliding_window=True, max_window_layers=1, sliding_window=8),
}
PROMPTS = {"unequal": [(5, 6, 7), (9, 3, 4, 8, 1, 2), (7,)], "equal": [(5, 6, 7, 8), (9, 3, 4, 1)]}


def made(config: PreTrainedConfig) -> PreTrainedModel:
    """Norms and biases that are not what a new model has, so that a forgotten one shows."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("config", TAKEN.values(), ids=TAKEN)
@torch.no_grad()
def test_every_step_gives_the_models_logits(config: PreTrainedConfig, prompts: list[tuple[int, ...]]) -> None:
    model = made(config)
    assert fits(model, torch.float32)
    ours, plain = LeanDecoder(model), CachedDecoder(model.double(), 0)
    exact = plain.start(prompts, 3, 12)
    model.float()
    assert_close(ours.start(prompts, 3, 12), exact)
    generator = torch.Generator().manual_seed(3)
    for step in range(11):
        if step == 5:
            kept = torch.tensor([0, 2, 3, 5])
            ours.keep(kept)
            plain.keep(kept)
            exact = exact[kept]
        token_N = torch.randint(97, (len(exact),), generator=generator)
        found = ours.step(token_N)
        exact = CachedDecoder.step(_as_double(plain, model), token_N)
        model.float()
        assert_close(found, exact)


def _as_double(plain: CachedDecoder, model: PreTrainedModel) -> CachedDecoder:
    model.double()
    return plain


def assert_close(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Log-probabilities to 1e-5 of what fp64 gives; transformers rounds its norms to fp32 there too."""
    assert (found.log_softmax(dim=-1) - exact.log_softmax(dim=-1)).abs().max() < 1e-5


@pytest.mark.parametrize("config", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_other_models_go_through_transformers(config: PreTrainedConfig) -> None:
    assert not fits(made(config), torch.float32)


def test_so_do_large_ones_other_precisions_and_what_turns_out_different(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(TAKEN["Qwen2"])
    assert not fits(model, torch.bfloat16)
    monkeypatch.setattr(lean, "LARGEST", model.num_parameters() - 1)
    assert not fits(model, torch.float32)
    monkeypatch.undo()
    model.get_decoder().layers[1].mlp.register_forward_hook(lambda module, inputs, output: output * 1.5)
    assert not fits(model, torch.float32)
    assert not fits(made(TAKEN["Qwen2"]).bfloat16(), torch.float32)


def test_samples_are_those_of_transformers(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["2 + 3 * 4", "What is (7 - 2) * 3 + 11?", "9 - 1", "Tom has 3 apples and buys 4 more."]
    prompts = [
        Prompt(index=n, source="", question=text, answer="", token_ids=tuple(_ids(tiny_tokenizer, text)))
        for n, text in enumerate(texts)
    ]
    sampling = Sampling(temperature=0.9, max_completion_length=64, num_generations=6)
    rollout = TransformersRollout(tiny_model, tiny_tokenizer, 16, torch.float32)
    ours = rollout.generate(prompts, sampling, seed=0)
    monkeypatch.setattr(rollout, "_lean", False)
    theirs = rollout.generate(prompts, sampling, seed=0)
    pairs = [
        (a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.completions, y.completions, strict=True)
    ]
    assert [a.token_ids for a, _ in pairs] == [b.token_ids for _, b in pairs]
    assert max(abs(p - q) for a, b in pairs for p, q in zip(a.sampler_logp, b.sampler_logp, strict=True)) < 1e-5


def _ids(tokenizer: Any, text: str) -> list[int]:
    found = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
    )
    ids: list[int] = found["input_ids"]
    return ids
