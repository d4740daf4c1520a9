"""The shapes that a plan counts with, against models that transformers builds."""

from pathlib import Path

import pytest
import torch
from planned_runs import SIZES
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from gatepo.errors import UserError
from gatepo.plan.shape import from_config, model_shape


def test_the_embedded_model_has_as_many_parameters_as_its_shape_says(tiny_model: torch.nn.Module) -> None:
    assert model_shape("tiny").parameters == sum(p.numel() for p in tiny_model.parameters())


@pytest.mark.parametrize(
    ("size", "parameters", "billions", "without_embedding"),
    [  # counts: of the safetensors on the hub; billions: the model cards, "Number of Parameters" and "(Non-Embedding)"
        ("0.5B", 494_032_768, 0.49, 0.36),
        ("1.5B", 1_543_714_304, 1.54, 1.31),
        ("3B", 3_085_938_688, 3.09, 2.77),
        ("7B", 7_615_616_512, 7.61, 6.53),
    ],
)
def test_qwen25_is_known_without_the_hub(
    size: str, parameters: int, billions: float, without_embedding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", None)
    for name in (f"Qwen/Qwen2.5-{size}", f"Qwen/Qwen2.5-{size}-Instruct"):
        shape = model_shape(name)
        assert shape.parameters == parameters
        assert shape.parameters / 1e9 == pytest.approx(billions, abs=0.0061)
        embeddings = shape.head * (1 if shape.tied else 2)
        assert (shape.parameters - embeddings) / 1e9 == pytest.approx(without_embedding, abs=0.0051)


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SIZES),
        Qwen2Config(**SIZES, tie_word_embeddings=True),
        Qwen3Config(**SIZES),
        Qwen3Config(**SIZES, attention_bias=True),
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
        MistralConfig(**SIZES),
    ],
    ids=lambda c: c.model_type,
)
def test_every_family_counts_as_transformers_builds_it(config) -> None:
    shape = from_config("here", config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    linear = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.body_matrices + shape.head == sum(linear)


def test_a_head_size_that_the_config_leaves_out_is_that_of_equal_shares() -> None:
    config = Qwen2Config(**(SIZES | {"head_dim": None}))
    assert from_config("here", config).head_dim == 96 // 6


def test_other_families_and_missing_models_are_one_line_with_a_remedy(tmp_path: Path) -> None:
    GPT2Config().save_pretrained(tmp_path)
    for path, message in (
        (str(tmp_path), "gatepo.plan knows the families qwen2, qwen3, llama, mistral, got gpt2; plan with"),
        ("no/such-model", "model.path=no/such-model is no folder, and the hub is offline from here (HF_HUB_OFFLINE is"),
    ):
        with pytest.raises(UserError) as caught:
            model_shape(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
