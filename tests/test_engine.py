"""The plain trainer: what must not change an update, and what must stop it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gatepo.engine.base import EngineParts
from gatepo.engine.optimizer import AdamW
from gatepo.engine.reference import FrozenPolicy
from gatepo.engine.torch import TorchEngine
from gatepo.errors import TrainingStopped
from gatepo.logprobs import token_logprobs
from gatepo.model import load_model
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective, policy_loss
from gatepo.objective.tau import ConstantTau
from gatepo.types import TokenBatch
from gatepo.world import World

OBJECTIVE = Objective(
    gate=gates.get("erf"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
)
SETTINGS = AdamW(lr=1e-3)
TOTALS = Totals(completions=8, tokens=100)


def parts(path: str = "tiny", dtype: torch.dtype = torch.float32) -> EngineParts:
    return EngineParts(
        model=load_model(path, torch.device("cpu"), None),
        optimizer=SETTINGS,
        updates=10,
        micro=8,
        head_mib=1,
        temperature=1.0,
        dtype=dtype,
        world=World(),
    )


def engine(
    micro: int = 8, settings: AdamW = SETTINGS, dtype: torch.dtype = torch.float32, micro_tokens: int | None = None
) -> TorchEngine:
    whole = parts()
    chosen = {"optimizer": settings, "micro": micro, "micro_tokens": micro_tokens}
    return TorchEngine(replace(whole, model=whole.model.to(dtype), **chosen))


def batch(garbage: int = 0) -> TokenBatch:
    """Eight completions in two groups; those of the second have A = 0."""
    generator = torch.Generator().manual_seed(0)
    N, T = 8, 20
    prompt_N1 = torch.randint(3, 6, (N, 1), generator=generator)
    end_N1 = prompt_N1 + torch.randint(1, T - 5, (N, 1), generator=generator)
    at = torch.arange(T)[None]
    attention_NT = at < end_N1
    ids_NT = torch.randint(7, 300, (N, T), generator=generator)
    return TokenBatch(
        ids_NT=torch.where(attention_NT, ids_NT, garbage),
        completion_NT=attention_NT & (at >= prompt_N1),
        attention_NT=attention_NT,
        advantage_N=torch.cat([torch.randn(4, generator=generator), torch.zeros(4)]),
        group_N=torch.arange(N) // 4,
        sampler_logp_NT=torch.zeros(N, T),
    )


def weights(trained: TorchEngine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for _, p in trained.weights()])


def train(trained: TorchEngine, data: TokenBatch, updates: int = 3) -> list[float]:
    """Losses of several updates on one batch; the first captures the anchor."""
    anchor_NT, losses = None, []
    for _ in range(updates):
        step = trained.update(data, anchor_NT, TOTALS, OBJECTIVE)
        anchor_NT = step.logp_NT if anchor_NT is None else anchor_NT
        losses.append(step.loss)
    return losses


def test_the_size_of_micro_batches_changes_nothing() -> None:
    """In fp64, and with an epsilon that keeps Adam from blowing the last bit of a tiny gradient up to a whole step."""
    settings = replace(SETTINGS, eps=1e-3)
    whole = engine(8, settings, torch.float64)
    losses = train(whole, batch())
    assert abs(losses[1] - losses[0]) > 1e-4  # the updates do something
    for micro, tokens in ((1, None), (2, None), (4, None), (8, 1), (8, 25), (3, 60)):
        split = engine(micro, settings, torch.float64, tokens)
        assert train(split, batch()) == pytest.approx(losses, rel=1e-9)
        torch.testing.assert_close(weights(split), weights(whole), rtol=0, atol=1e-10)


def test_garbage_in_the_padding_changes_nothing() -> None:
    one, other = engine(), engine()
    assert train(one, batch(garbage=0)) == train(other, batch(garbage=499))
    assert torch.equal(weights(one), weights(other))


def test_records_come_back_in_the_batchs_order() -> None:
    data = batch()
    for micro in (1, 3, 8):
        step = engine(micro=micro).update(data, None, TOTALS, OBJECTIVE)
        assert torch.equal(step.record.advantage_N, data.advantage_N)
        width = step.record.mask_NT.shape[1]
        assert torch.equal(step.record.mask_NT, data.completion_NT[:, 1 : width + 1])
        assert not data.completion_NT[:, width + 1 :].any()


def test_log_probabilities_captured_in_the_update_are_those_before_it() -> None:
    trained, data = engine(micro=3), batch()
    before = trained.logprobs(data)
    step = trained.update(data, None, TOTALS, OBJECTIVE)
    torch.testing.assert_close(step.logp_NT, before, rtol=0, atol=1e-5)
    assert not step.logp_NT[~data.completion_NT[:, 1:]].any()
    assert (trained.logprobs(data) - before).abs().max() > 1e-3  # and the update did change them


def test_skipping_the_backward_of_zero_advantages_is_exact() -> None:
    """The gradient equals the plain one: every completion forward and backward in one piece."""
    data = batch()
    trained = engine(dtype=torch.float64, settings=replace(SETTINGS, max_grad_norm=float("inf")))
    logp_NT, entropy_NT = trained._policy(data.ids_NT, data.completion_NT)
    loss, _ = policy_loss(
        OBJECTIVE,
        logp_NT=logp_NT,
        anchor_NT=logp_NT.detach(),
        sampler_NT=logp_NT.detach(),
        entropy_NT=entropy_NT,
        advantage_N=data.advantage_N,
        mask_NT=data.completion_NT[:, 1:],
        totals=TOTALS,
    )
    plain = torch.autograd.grad(loss, list(trained._model.parameters()))
    norm = torch.cat([g.flatten() for g in plain]).norm().item()
    step = trained.update(data, None, TOTALS, OBJECTIVE)
    assert step.grad_norm == pytest.approx(norm, rel=1e-9)
    assert step.loss == pytest.approx(loss.item(), abs=1e-12)
    for ours, theirs in zip(trained._model.parameters(), plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=0, atol=1e-9)


def test_a_batch_without_any_advantage_leaves_the_weights_alone() -> None:
    trained = engine()
    before = weights(trained)
    step = trained.update(replace(batch(), advantage_N=torch.zeros(8)), None, TOTALS, OBJECTIVE)
    assert (step.loss, step.grad_norm) == (0, 0)
    assert torch.equal(weights(trained), before)


def test_the_learning_rate_falls_linearly_and_reports_what_was_used() -> None:
    trained = engine()
    rates = [trained.update(batch(), None, TOTALS, OBJECTIVE).learning_rate for _ in range(10)]
    assert rates == pytest.approx([1e-3 * (1 - i / 10) for i in range(10)])


def test_one_step_is_adamw_with_the_gradient_scaled_to_the_norm() -> None:
    trained = engine(settings=replace(SETTINGS, max_grad_norm=1e-4))
    before = weights(trained)
    trained.update(batch(), None, TOTALS, OBJECTIVE)
    gradient = torch.cat([p.grad.flatten() for p in trained._model.parameters()])
    assert gradient.norm().item() == pytest.approx(1e-4, rel=1e-3)
    # the first step of Adam: both moments are bias-corrected to g and g^2, so it moves by lr g / (|g| + eps)
    expected = before - 1e-3 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(weights(trained), expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(broken: float) -> None:
    trained = engine()
    train(trained, batch(), updates=1)
    before = weights(trained)
    data = replace(batch(), advantage_N=torch.full((8,), broken))
    with pytest.raises(TrainingStopped, match=r"update 2: loss .* must be finite; the weights were not changed"):
        trained.update(data, None, TOTALS, OBJECTIVE)
    assert torch.equal(weights(trained), before)


def test_a_saved_engine_goes_on_exactly(tmp_path: Path) -> None:
    one, other = engine(), engine()
    train(one, batch(), updates=2)
    one.save(tmp_path / "engine.pt")
    other.load(tmp_path / "engine.pt")
    assert train(one, batch()) == train(other, batch())
    assert torch.equal(weights(one), weights(other))


def test_an_exported_model_is_loaded_by_transformers(tmp_path: Path) -> None:
    trained = engine()
    train(trained, batch())
    trained.export(tmp_path / "model")
    again = TorchEngine(parts(str(tmp_path / "model")))
    assert torch.equal(weights(again), weights(trained))


def test_a_bf16_body_stays_close_to_fp32() -> None:
    half = TorchEngine(parts(dtype=torch.bfloat16))
    difference = (half.logprobs(batch()) - engine().logprobs(batch())).abs()
    assert 0 < difference.mean() < 0.1
    assert {p.dtype for _, p in half.weights()} == {torch.float32}


def test_prompt_tokens_and_padding_never_reach_the_head(monkeypatch) -> None:
    from gatepo.engine import policy

    seen: list[int] = []

    def counted(hidden_MH: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(hidden_MH))
        return token_logprobs(hidden_MH, *rest)

    monkeypatch.setattr(policy, "token_logprobs", counted)
    data = batch()
    engine(micro=3).update(data, None, TOTALS, OBJECTIVE)
    assert sum(seen) == data.completion_NT.sum().item() < data.attention_NT.sum().item()


@pytest.mark.parametrize("length", [192, 2000])
def test_the_reference_in_bf16_is_the_policy_at_every_length(length: int) -> None:
    """The divergence of identical weights, nats per token: 0.016 and 0.28 where RoPE's frequencies were in bf16 too."""
    ids_NT = torch.randint(7, 500, (2, length), generator=torch.Generator().manual_seed(0))
    every_NT = torch.ones_like(ids_NT, dtype=torch.bool)
    whole = TokenBatch(
        ids_NT=ids_NT,
        completion_NT=every_NT & (torch.arange(length) > 0),
        attention_NT=every_NT,
        advantage_N=torch.ones(2),
        group_N=torch.arange(2),
        sampler_logp_NT=torch.zeros(ids_NT.shape),
    )
    frozen = load_model("tiny", torch.device("cpu"), None, torch.bfloat16)
    reference_NT = FrozenPolicy(frozen, 2, 1.0, torch.bfloat16).logprobs(whole)
    difference_NT = reference_NT - TorchEngine(parts(dtype=torch.bfloat16)).logprobs(whole)
    assert (difference_NT.exp() - 1 - difference_NT).mean() < 0.0133  # by rounding: 0.011 and 0.006
    assert {parameter.dtype for parameter in frozen.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in frozen.buffers()} == {torch.float32}
