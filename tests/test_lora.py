"""LoRA by the real peft, on the embedded model: what learns, what samplers decode with, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from command import gatepo
from composed import algorithm, typed
from torch import Tensor

pytest.importorskip("peft", reason="peft is not installed; make test installs it")

from gatepo.engine import adapted
from gatepo.engine.adapter import Lora
from gatepo.engine.policy import Policy
from gatepo.engine.reference import BeneathAdapter, FrozenPolicy
from gatepo.engine.torch import TorchEngine
from gatepo.errors import UserError
from gatepo.model import autocast, load_model
from gatepo.objective.aggregation import Totals
from gatepo.rollout.lean import LeanDecoder
from gatepo.rollout.transformers import TransformersRollout
from gatepo.types import Prompt, Sampling
from gatepo.world import World
from tests.stack.engines import COMPLETIONS, OBJECTIVE, GradientDescent, batch, parts

CPU = torch.device("cpu")
QUERY, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj"
STEP = GradientDescent(lr=1.0, schedule="constant", max_grad_norm=float("inf"))
WHOLE = batch()
TOTALS = Totals(completions=len(WHOLE), tokens=int(WHOLE.completion_NT.sum()))


def tiny(**adapter: Any) -> Any:
    """The embedded model, with an adapter where its settings are given."""
    model = load_model("tiny", CPU, None)
    return Lora(**adapter).attach(model, 0) if adapter else model


def trainer(model: Any, dtype: torch.dtype = torch.float32) -> TorchEngine:
    return TorchEngine(replace(parts(model, COMPLETIONS, World()), optimizer=STEP, dtype=dtype))


def moved(model: Any, size: float = 0.05) -> Any:
    """The model with an adapter that does something."""
    generator = torch.Generator().manual_seed(3)
    for layer in adapted.layers(model).values():
        weight = layer.lora_B["default"].weight
        weight.data = (size * torch.randn(weight.shape, generator=generator)).to(weight)
    return model


@pytest.mark.parametrize("name", [QUERY, DOWN])
def test_with_a_of_full_rank_and_the_identity_the_first_step_is_that_of_all_weights(name: str) -> None:
    """W' = W + s (B - lr s dL/dW A^T) A = W - lr dL/dW, with s = 1, B = 0 and A = I."""
    whole = tiny()
    width = whole.get_submodule(name).in_features
    model = tiny(rank=width, alpha=width, target_modules=[name.rpartition(".")[2]])
    layer = adapted.layers(model)[name]
    layer.lora_A["default"].weight.data = torch.eye(width)
    engines = [trainer(whole), trainer(model)]
    before = whole.get_submodule(name).weight.detach().clone()
    for engine in engines:
        engine.update(WHOLE, None, TOTALS, OBJECTIVE)
    full, low = (dict(engine.weights())[f"{name}.weight"].detach() for engine in engines)
    assert (full - before).abs().max() > 1e-4
    torch.testing.assert_close(low - before, full - before, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_the_whole_weight_through_the_other_factor() -> None:
    """Y = X (W + s B A)^T: dL/dB = s dL/dW A^T, dL/dA = s B^T dL/dW."""
    model = moved(tiny(rank=5, alpha=15, target_modules=["q_proj"]))
    merged = tiny()
    merged.load_state_dict(dict(adapted.whole_weights(model)))
    engines = [trainer(merged), trainer(model)]
    layer, whole = adapted.layers(model)[QUERY], merged.get_submodule(QUERY).weight
    A, B = (getattr(layer, part)["default"].weight for part in ("lora_A", "lora_B"))
    factors = A.detach().clone(), B.detach().clone()
    for engine in engines:
        engine.update(WHOLE, None, TOTALS, OBJECTIVE)
    torch.testing.assert_close(B.grad, 3 * whole.grad @ factors[0].T, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(A.grad, 3 * factors[1].T @ whole.grad, rtol=1e-3, atol=1e-5)


def test_the_adapter_alone_has_gradients_and_optimizer_states() -> None:
    made = algorithm(typed("model/adapter=lora", "model.adapter.rank=4"))
    engine: Any = made.engine
    engine.update(WHOLE, None, TOTALS, OBJECTIVE)
    learning = {name for name, p in engine._model.named_parameters() if p.grad is not None}
    assert learning == {name for name, _ in engine.adapter_weights()}
    assert {".lora_A." in name or ".lora_B." in name for name in learning} == {True}
    held = sum(s["exp_avg"].numel() for s in engine._optimizer.state.values())
    assert held == sum(weight.numel() for _, weight in engine.adapter_weights())


def test_the_first_weights_follow_from_the_seed_and_nothing_else() -> None:
    torch.manual_seed(5)
    one = dict(adapted.adapter_weights(Lora().attach(load_model("tiny", CPU, None), 1)))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    other, third = (dict(adapted.adapter_weights(Lora().attach(load_model("tiny", CPU, None), s))) for s in (1, 2))
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_the_policy_gives_merged_weights_under_the_names_of_the_model_and_keeps_its_own(tiny_model: Any) -> None:
    model = moved(tiny(rank=4, alpha=8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    merged = {name: weight.detach().clone() for name, weight in trainer(model).weights()}
    assert list(merged) == [name for name, _ in tiny_model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    layer = adapted.layers(model)[QUERY]
    up, down = (getattr(layer, part)["default"].weight.double() for part in ("lora_B", "lora_A"))
    expected = layer.base_layer.weight.double() + 2 * up @ down
    torch.testing.assert_close(merged[f"{QUERY}.weight"].double(), expected, rtol=0, atol=1e-6)
    plain = load_model("tiny", CPU, None)
    plain.load_state_dict(merged)
    ids = WHOLE.ids_NT[:4]
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_the_lean_decoder_decodes_with_the_adapter() -> None:
    model = moved(tiny(rank=4))
    prompts = [tuple(row.tolist()) for row in WHOLE.ids_NT[:3, :4]]
    decoder = LeanDecoder(model)
    found = decoder.start(prompts, 1, 1)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(prompts)).logits[:, -1]
        without = tiny()(input_ids=torch.tensor(prompts)).logits[:, -1]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert (wanted - without).abs().max() > 0.1


def test_a_sampler_that_shares_the_module_samples_from_the_policy(tiny_tokenizer: Any) -> None:
    model = moved(tiny(rank=4), 0.02)
    sampler = TransformersRollout(model, tiny_tokenizer, 16, torch.float32)
    assert sampler._lean
    prompt = Prompt(token_ids=(5, 6, 7), question="", answer="", source="", index=0)
    [group] = sampler.generate([prompt], Sampling(temperature=1.0, max_completion_length=8, num_generations=4), 0)
    for completion in group.completions:
        ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids).logits[0, 2:-1], dim=-1)
        wanted = logp.gather(1, ids[0, 3:, None]).squeeze(1)
        assert completion.sampler_logp == pytest.approx(wanted.tolist(), abs=1e-4)


def test_the_reference_is_the_model_beneath_the_adapter() -> None:
    model = moved(tiny(rank=4))
    engine = trainer(model)
    frozen = FrozenPolicy(tiny(), COMPLETIONS, 1.0, torch.float32)
    expected, own = frozen.logprobs(WHOLE), engine.logprobs(WHOLE)
    torch.testing.assert_close(BeneathAdapter(engine, model).logprobs(WHOLE), expected, rtol=0, atol=1e-4)
    assert (own - expected).abs().max() > 0.1
    assert torch.equal(engine.logprobs(WHOLE), own)
    made = algorithm(typed("model/adapter=lora", "kl=grpo"))
    assert isinstance(made.reference, BeneathAdapter)


def test_frozen_weights_that_are_kept_in_bf16_change_no_bit_of_what_autocast_computes() -> None:
    model = moved(tiny(rank=4, alpha=8))
    ids = WHOLE.ids_NT[:4]

    def logits() -> Tensor:
        with torch.no_grad(), autocast(CPU, torch.bfloat16):
            return model(input_ids=ids).logits

    before = logits()
    trainer(model, torch.bfloat16)
    kept = {name: p.dtype for name, p in model.named_parameters()}
    assert kept[f"{QUERY}.base_layer.weight"] == torch.bfloat16
    assert kept["lm_head.weight"] == kept[f"{QUERY}.lora_A.default.weight"] == torch.float32
    assert torch.equal(logits(), before)


def test_dropout_is_at_work_in_updates_alone_and_follows_from_the_seed() -> None:
    losses = []
    for update in (0, 0, 1):
        model = moved(tiny(rank=4, dropout=0.5))
        engine = trainer(model)
        engine._updates_done = update
        before = engine.logprobs(WHOLE)
        assert torch.equal(engine.logprobs(WHOLE), before)
        losses.append(engine.update(WHOLE, before, TOTALS, OBJECTIVE).grad_norm)
    assert losses[0] == losses[1] != losses[2]


def test_activation_checkpointing_gives_the_same_gradient() -> None:
    from gatepo.model import checkpoint_activations

    norms = []
    for checkpointed in (False, True):
        model = moved(tiny(rank=4))
        if checkpointed:
            checkpoint_activations(model)
        norms.append(trainer(model).update(WHOLE, None, TOTALS, OBJECTIVE).grad_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_policy_with_an_adapter_shares_prompts() -> None:
    model = moved(tiny(rank=4))
    policy = Policy(model, 1.0, torch.float32)
    assert policy.shares_prompts
    shared, _ = policy(WHOLE.ids_NT, WHOLE.completion_NT)
    policy.shares_prompts = False
    torch.testing.assert_close(shared, policy(WHOLE.ids_NT, WHOLE.completion_NT)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model.adapter=lorra"], "model.adapter must be one of lora, none, got model.adapter=lorra; did you mean"),
        (["model.adapter.rank=8"], "got model.adapter.rank=8; model.adapter=lora has it"),
        (["model.adapter=lora", "model.adapter.rank=0"], "model.adapter.rank must be >= 1, got 0; 16 is the default"),
        (["model.adapter=lora", "model.adapter.alpha=0"], "model.adapter.alpha must be a finite number > 0, got 0.0"),
        (["model.adapter=lora", "model.adapter.dropout=1"], "model.adapter.dropout must be in [0, 1), got 1.0"),
        (
            ["model.adapter=lora", "model.adapter.target_modules=[query]"],
            "model.adapter.target_modules must name linear maps of the model's layers (down_proj, gate_proj, k_proj, "
            "o_proj, q_proj, up_proj, v_proj), got query (",
        ),
        (
            ["model.adapter=lora", "model.adapter.target_modules=[lm_head]"],
            "got lm_head (lm_head is no linear map of a layer); leave it out for all of them",
        ),
        (["model.adapter=lora", "model.adapter.target_modules=[all-linear,q_proj]"], "all-linear alone, got"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, words: list[str], line: str) -> None:
    done = gatepo("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    assert line in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_evaluation_takes_no_adapter_of_its_own() -> None:
    done = gatepo("evaluate", "model.adapter=lora")
    assert done.returncode == 2
    assert "model.adapter must be none in an evaluation: that of a run is known, got lora; leave it out" in done.stderr


def test_a_missing_peft_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"model.adapter=lora needs peft, .*: pip install '\.\[lora\]'"):
        tiny(rank=4)


def test_an_engine_that_knows_no_adapters_is_refused() -> None:
    from gatepo.engine.torch import Torch
    from gatepo.rules import check

    settings = typed("model/adapter=lora")

    class Own(Torch):
        KNOWS_ADAPTERS = False

    with pytest.raises(UserError, match=r"model\.adapter must be none with an engine that knows none, got lora; type"):
        check(replace(settings, engine=Own()))


def test_help_lists_the_adapters_and_their_settings() -> None:
    done = gatepo("train", "model.adapter=lora", "--help")
    assert done.returncode == 0, done.stderr
    assert "  model.adapter What of the model learns.\n               none, lora\n" in done.stdout
    assert "  model.adapter.rank=16 " in done.stdout
