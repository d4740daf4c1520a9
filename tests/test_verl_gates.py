"""gatepo's gates through verl's own registry (``make test-verl``: verl needs an older transformers than the rest).

Axes: N completions, T tokens.
"""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from gatepo.objective import gates
from gatepo.objective.aggregation import GeometricMean, SequenceMean, TokenMean, Totals
from gatepo.objective.ratio import SequenceTokenRatio, TokenRatio
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.tau import ConstantTau

pytest.importorskip("verl", reason="verl is not installed; make test-verl has it")

N, T = 6, 9
AGGREGATIONS = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


def actor(**settings: Any) -> Any:
    """verl's own config of an actor."""
    from verl.workers.config import FSDPActorConfig

    return FSDPActorConfig(ppo_micro_batch_size_per_gpu=N, rollout_n=3, **settings)


def tokens() -> dict[str, torch.Tensor]:
    """Log-probabilities far enough from the old ones for gates to act; the tail of some completions is padding."""
    generator = torch.Generator().manual_seed(0)
    old_NT = -torch.rand(N, T, generator=generator)
    return {
        "old_log_prob": old_NT,
        "log_prob": (old_NT + 0.3 * torch.randn(N, T, generator=generator)).requires_grad_(),
        "advantages": torch.randn(N, 1, generator=generator).expand(N, T),
        "response_mask": torch.arange(T)[None] < torch.randint(2, T + 1, (N, 1), generator=generator),
        "rollout_is_weights": 1 + 0.2 * torch.rand(N, T, generator=generator),
    }


def verls(loss_mode: str, config: Any, aggregation: str = "seq-mean-token-mean", **changed: Any) -> tuple[Any, ...]:
    """Loss, gradient by log-probability, and metrics of the loss that verl finds under this name."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    given = tokens() | changed
    loss, metrics = get_policy_loss_fn(loss_mode)(loss_agg_mode=aggregation, config=config, **given)
    return loss.item(), torch.autograd.grad(loss, given["log_prob"])[0], metrics


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_clip_is_verls_own_loss(aggregation: str) -> None:
    """With the dual clip of verl's out of the way; loss, gradient and verl's figures."""
    config = actor(clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=1e9)
    wanted, wanted_NT, figures = verls("vanilla", config, aggregation)
    found, found_NT, ours = verls("gatepo_clip", config, aggregation)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert torch.allclose(found_NT, wanted_NT, atol=1e-7)
    assert 0.2 < figures["actor/pg_clipfrac"] < 0.8
    assert {key: ours[key] for key in ("actor/pg_clipfrac", "actor/ppo_kl")} == pytest.approx(
        {key: figures[key] for key in ("actor/pg_clipfrac", "actor/ppo_kl")}
    )
    assert ours["actor/eur/token_mean"] == pytest.approx(1 - figures["actor/pg_clipfrac"]), "as no A is 0"


@pytest.mark.parametrize("c", [1e9, 1.2])
def test_the_share_of_clipped_tokens_is_verls_where_some_have_no_advantage(c: float) -> None:
    """A group of equal rewards has A = 0, and nothing of it is clipped; verl counts the dual clip's tokens apart."""
    config = actor(clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=c)
    advantage_NT = tokens()["advantages"] * (torch.arange(N) % 3 > 0)[:, None]
    _, _, figures = verls("vanilla", config, advantages=advantage_NT)
    gate = "gatepo_clip" if c == 1e9 else "gatepo_dual_clip"
    _, _, ours = verls(gate, config, advantages=advantage_NT)
    wanted = figures["actor/pg_clipfrac"] + figures["actor/pg_clipfrac_lower"]
    assert 0.1 < wanted < 0.8
    assert (figures["actor/pg_clipfrac_lower"] > 0) == (c == 1.2)
    assert ours["actor/pg_clipfrac"] == pytest.approx(wanted, abs=1e-7)
    assert ours["actor/eur/token_mean"] < 1 - wanted - 0.01, "eq. 12 counts the tokens with A = 0, with their slope"


@pytest.mark.parametrize("c", [1.2, 3.0])
def test_dual_clip_is_verls_own_loss_as_it_is(c: float) -> None:
    config = actor(clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=c)
    wanted, wanted_NT, _ = verls("vanilla", config)
    found, found_NT, _ = verls("gatepo_dual_clip", config)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert torch.allclose(found_NT, wanted_NT, atol=1e-7)
    if c == 1.2:
        assert not torch.allclose(found_NT, verls("gatepo_clip", config)[1], atol=1e-7), "c acts on these tokens"


def test_sigmoid_has_the_gradient_of_verls_sapo() -> None:
    config = actor(tau_pos=10.0, tau_neg=12.0)
    _, wanted_NT, _ = verls("sapo", config)
    _, found_NT, _ = verls("gatepo_sigmoid", config)
    assert wanted_NT.norm() > 0.01
    assert torch.allclose(found_NT, wanted_NT, atol=1e-7)


def gatepos(
    gate: gates.Gate, given: dict[str, torch.Tensor], objective: Objective | None = None
) -> tuple[float, torch.Tensor, TokenRecord]:
    """Loss, gradient and record of gatepo's own objective on these tokens."""
    own = Objective(gate=gate, tau=ConstantTau(pos=7, neg=9), ratio=TokenRatio(), aggregation=SequenceMean())
    loss, record = policy_loss(
        objective or own,
        logp_NT=given["log_prob"],
        anchor_NT=given["old_log_prob"],
        sampler_NT=given["old_log_prob"],
        entropy_NT=torch.zeros(N, T),
        advantage_N=given["advantages"][:, 0],
        mask_NT=given["response_mask"],
        totals=Totals(completions=N, tokens=int(given["response_mask"].sum())),
    )
    return loss.item(), torch.autograd.grad(loss, given["log_prob"])[0], record


@pytest.mark.parametrize("name", ["erf", "arctan", "softsign"])
def test_other_gates_have_the_loss_gradient_and_eur_of_gatepo(name: str) -> None:
    given = tokens()
    wanted, wanted_NT, record = gatepos(gates.get(name), given)
    found, found_NT, figures = verls(f"gatepo_{name}", actor(tau_pos=7.0, tau_neg=9.0), rollout_is_weights=None)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert torch.allclose(found_NT, wanted_NT, atol=1e-7)
    eur = record.slope_NT[given["response_mask"]].mean().item()
    assert 0.1 < eur < 0.9
    assert figures["actor/eur/token_mean"] == pytest.approx(eur, rel=1e-5)


GMPO = {"eps_low": 1 - math.exp(-0.4), "eps_high": math.exp(0.4) - 1}
GSPO = {"eps_low": 3e-4, "eps_high": 4e-4}
# verl's name; its settings and aggregation; the same on gatepo's axes; how far pi_old is, nats
METHODS: dict[str, tuple[str, dict[str, Any], str, Objective, float]] = {
    "dual_clip": (
        "vanilla",
        {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2, "clip_ratio_c": 3.0},
        "token-mean",
        Objective(
            gate=gates.get("dual_clip"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=TokenMean()
        ),
        1.0,
    ),
    "gspo_token": (
        "gspo",
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        "seq-mean-token-mean",
        Objective(
            gate=gates.get("clip", **GSPO),
            tau=ConstantTau(pos=10, neg=12),
            ratio=SequenceTokenRatio(),
            aggregation=SequenceMean(),
        ),
        1e-3,
    ),
    "gmpo": (
        "geo_mean",
        {"clip_ratio_low": 0.4, "clip_ratio_high": 0.4},
        "token-mean",
        Objective(
            gate=gates.get("clip", **GMPO),
            tau=ConstantTau(pos=10, neg=12),
            ratio=TokenRatio(),
            aggregation=GeometricMean(),
        ),
        0.5,
    ),
    "cispo": (
        "cispo",
        {"clip_ratio_low": 1.0, "clip_ratio_high": 4.0},
        "token-mean",
        Objective(
            gate=gates.get("cispo"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=TokenMean()
        ),
        1.5,
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_verl_has_too_have_its_gradient(method: str) -> None:
    loss_mode, settings, aggregation, objective, spread = METHODS[method]
    given = tokens() | {"rollout_is_weights": None}
    shift_NT = (given["log_prob"] - given["old_log_prob"]).detach() / 0.3 * spread
    given["log_prob"] = (given["old_log_prob"] + shift_NT).requires_grad_()
    _, wanted_NT, _ = verls(loss_mode, actor(**settings), aggregation, **given)
    _, found_NT, record = gatepos(objective.gate, given, objective)
    assert not torch.all(record.slope_NT[given["response_mask"]] == 1)
    assert wanted_NT.norm() > 0.01
    assert torch.allclose(found_NT, wanted_NT, atol=1e-6)


def test_an_actor_update_goes_through_the_gate() -> None:
    """verl's own loss of the actor, from a batch as its workers hold it, on the embedded model: two passes over it."""
    from tensordict import TensorDict
    from verl.workers.utils.losses import ppo_loss

    from gatepo.model import load_model

    model = load_model("tiny", torch.device("cpu"), None)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(7, 300, (N, 2 * T), generator=generator)

    def forward() -> torch.Tensor:
        logp_NT = model(ids_NT).logits.log_softmax(dim=-1)[:, :-1].gather(2, ids_NT[:, 1:, None]).squeeze(2)
        return torch.nn.functional.pad(logp_NT, (0, 1))

    data = TensorDict(
        {
            "prompts": ids_NT[:, :T],
            "responses": ids_NT[:, T:],
            "attention_mask": torch.ones_like(ids_NT),
            "response_mask": torch.ones(N, T, dtype=torch.long),
            "old_log_probs": forward()[:, T - 1 : -1].detach(),
            "advantages": torch.randn(N, 1, generator=generator).expand(N, T),
        },
        batch_size=N,
    )
    for key, value in {"dp_size": 1, "batch_num_tokens": N * T, "global_batch_size": N}.items():
        data.set_non_tensor(key, value)
    config = actor(
        policy_loss={"loss_mode": "gatepo_erf"}, tau_pos=10.0, tau_neg=12.0, loss_agg_mode="seq-mean-token-mean"
    )
    eur = []
    for _ in range(2):
        loss, metrics = ppo_loss(config, {"log_probs": forward().flatten()}, data)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        eur.append(metrics["actor/eur/token_mean"].aggregate())
    assert eur[0] == pytest.approx(1, abs=1e-4), "on-policy"
    assert 0.1 < eur[1] < 0.95


def test_padding_may_hold_anything() -> None:
    given = tokens()
    with torch.no_grad():
        given["log_prob"][~given["response_mask"]] = 1e4
    config = actor(tau_pos=7.0, tau_neg=9.0)
    clean, _, _ = verls("gatepo_erf", config)
    found, found_NT, figures = verls("gatepo_erf", config, log_prob=given["log_prob"])
    assert found == clean
    assert found_NT.isfinite().all()
    assert figures["actor/ppo_kl"] < 1


def test_a_gate_of_ones_own_can_be_registered() -> None:
    from gatepo.integrations.verl import register

    register("narrow", gates.Clip(eps_low=0.2, eps_high=0.2))
    config = actor(clip_ratio_low=0.01, clip_ratio_high=0.01)
    assert verls("gatepo_narrow", config)[2] == verls("gatepo_clip", config)[2], "bounds are the config's"


def test_a_tau_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^tau.neg must be in .1e-6, 1e6., .*, got 0.0; type tau=paper"):
        verls("gatepo_erf", actor(tau_neg=0.0))


def test_verl_finds_the_gates_by_itself_in_a_new_process() -> None:
    """As in its workers: nothing but verl is imported."""
    code = "from verl.trainer.ppo.core_algos import get_policy_loss_fn as get; print(get('gatepo_erf'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gatepo.objective" in done.stdout or "Erf" in done.stdout
