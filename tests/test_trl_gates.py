"""TRL's own trainer with gates of ours, against its own losses and in real runs (extra ``trl``).

Axes: N completions, T tokens.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gatepo.errors import UserError
from gatepo.model import load_model, load_tokenizer
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective, policy_loss
from gatepo.objective.tau import ConstantTau
from gatepo.objective.telemetry import effective_update_ratio

trl = pytest.importorskip("trl", reason="trl is not installed; make test installs it")
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPT, LENGTH, N, G = 5, 12, 12, 4


def longer_is_better(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(len(ids) + ids[0] % 3) for ids in completion_ids]


def trainer(
    folder: Path, gate: str | gates.Gate | None, tau: tuple[float, float] = (10.0, 12.0), **settings: Any
) -> Any:
    """TRL's trainer, with its own loss where there is no gate, around the embedded model."""
    from datasets import Dataset

    from gatepo.integrations.trl import GateTrainer

    settings = {"loss_type": "grpo", "per_device_train_batch_size": N, "num_iterations": 2} | settings
    common: dict[str, Any] = {
        "model": load_model("tiny", torch.device("cpu"), None),
        "processing_class": load_tokenizer("tiny"),
        "reward_funcs": longer_is_better,
        "args": trl.GRPOConfig(
            output_dir=str(folder),
            num_generations=G,
            max_completion_length=LENGTH,
            bf16=False,
            use_cpu=True,
            report_to="none",
            **settings,
        ),
        "train_dataset": Dataset.from_dict({"prompt": [f"{first} + 7 =" for first in range(N)]}),
    }
    return trl.GRPOTrainer(**common) if gate is None else GateTrainer(gate=gate, tau=tau, **common)


def batch(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What TRL's loss is given, with old log-probabilities far enough from the policy's for gates to act."""
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(7, 300, (N, PROMPT + LENGTH), generator=generator)
    length_N1 = torch.randint(2, LENGTH + 1, (N, 1), generator=generator)
    mask_NT = (torch.arange(LENGTH)[None] < length_N1).long()
    with torch.no_grad():
        logits = model(ids_NT).logits[:, PROMPT - 1 : -1].log_softmax(dim=-1)
    logp_NT = logits.gather(2, ids_NT[:, PROMPT:, None]).squeeze(2)

    def near(spread: float) -> torch.Tensor:
        return logp_NT + spread * torch.randn(logp_NT.shape, generator=generator)

    return {
        "prompt_ids": ids_NT[:, :PROMPT],
        "prompt_mask": torch.ones(N, PROMPT, dtype=torch.long),
        "completion_ids": ids_NT[:, PROMPT:],
        "completion_mask": mask_NT,
        "advantages": torch.randn(N, generator=generator) * (torch.arange(N) > 0),  # the first is 0
        "old_per_token_logps": near(0.3),
        "ref_per_token_logps": near(0.5),
        "sampling_per_token_logps": near(0.3),
        "importance_sampling_ratio": 1 + 0.2 * torch.rand(N, LENGTH, generator=generator),
        "tool_mask": (torch.arange(LENGTH) != 1).long().expand(N, LENGTH),
        "num_items_in_batch": mask_NT.sum(),
        "group": torch.arange(N) // G,
    }


def loss_and_gradient(of: Any, inputs: dict[str, torch.Tensor], accumulation: int = 1) -> tuple[float, torch.Tensor]:
    of.model.train()
    of.current_gradient_accumulation_steps = accumulation
    loss = of.compute_loss(of.model, inputs)
    gradient = torch.autograd.grad(loss, list(of.model.parameters()))
    return loss.item(), torch.cat([part.flatten() for part in gradient])


def assert_same_gradient(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert wanted.norm() > 0.01
    assert (found - wanted).norm() < 1e-5 * wanted.norm()


SEQUENCE = {"importance_sampling_level": "sequence", "epsilon": 0.02}
AROUND = {"top_entropy_quantile": 0.6, "off_policy_mask_threshold": 0.05, "entropy_coef": 0.05}


@pytest.mark.parametrize(
    ("gate", "settings"),
    [
        *(("clip", {"loss_type": name}) for name in ("grpo", "bnpo", "dr_grpo", "dapo")),
        *((gates.Clip(eps_low=0.02, eps_high=0.02), SEQUENCE | {"loss_type": name}) for name in ("grpo", "luspo")),
        ("clip", {"loss_type": "dapo", **AROUND}),
        ("sigmoid", {"loss_type": "sapo"}),
        ("sigmoid", {"loss_type": "sapo", **AROUND}),
    ],
)
def test_with_trls_gates_the_gradient_is_trls(tmp_path: Path, gate: str | gates.Gate, settings: dict[str, Any]) -> None:
    """Also with all that TRL does around a gate: KL, vLLM's correction, off-policy and entropy masks, entropy bonus."""
    own = {key: value for key, value in settings.items() if key != "epsilon"}
    ours = trainer(tmp_path, gate, **own | ({"loss_type": "grpo"} if gate == "sigmoid" else {}))
    theirs = trainer(tmp_path, None, sapo_temperature_pos=10.0, sapo_temperature_neg=12.0, **settings)
    inputs = batch(theirs.model)
    if "entropy_coef" in settings:
        for one in (ours, theirs):
            one.beta, one.use_vllm = (
                0.04,
                True,
            )  # as after construction with both, which would want a hub name and a GPU
    wanted_loss, wanted = loss_and_gradient(theirs, inputs, accumulation=2)
    before = dict(inputs)
    found_loss, found = loss_and_gradient(ours, inputs, accumulation=2)
    assert_same_gradient(found, wanted)
    if gate != "sigmoid":  # whose f(1) is 2 / tau in TRL's
        assert found_loss == pytest.approx(wanted_loss, abs=1e-5)
    assert all(inputs[key] is before[key] for key in before), "TRL gives the same batch to the next iteration"


@pytest.mark.parametrize("gate", ["erf", "sigmoid", gates.Arctan()])
def test_other_gates_give_the_gradient_and_eur_of_gatepo(tmp_path: Path, gate: str | gates.Gate) -> None:
    ours = trainer(tmp_path, gate, tau=(7.0, 9.0))
    inputs = batch(ours.model)
    mask_NT = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
    found_loss, found = loss_and_gradient(ours, inputs)
    eur = {name: values[-1] for name, values in ours._metrics["train"].items() if name.startswith("eur")}

    ids_NT = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    logits = ours.model(ids_NT).logits[:, PROMPT - 1 : -1].log_softmax(dim=-1)
    loss, record = policy_loss(
        Objective(
            gate=gates.get(gate) if isinstance(gate, str) else gate,
            tau=ConstantTau(pos=7, neg=9),
            ratio=TokenRatio(),
            aggregation=SequenceMean(),
        ),
        logp_NT=logits.gather(2, inputs["completion_ids"][:, :, None]).squeeze(2),
        anchor_NT=inputs["old_per_token_logps"],
        sampler_NT=inputs["old_per_token_logps"],
        entropy_NT=torch.zeros(N, LENGTH),
        advantage_N=inputs["advantages"],
        mask_NT=mask_NT,
        totals=Totals(completions=N, tokens=int(mask_NT.sum())),
    )
    wanted = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(ours.model.parameters()))])
    assert_same_gradient(found, wanted)
    assert found_loss == pytest.approx(loss.item(), abs=1e-5)
    sign_N = inputs["advantages"].sign()
    for name, rows_N in {"eur": sign_N < 2, "eur/positive": sign_N > 0, "eur/negative": sign_N < 0}.items():
        part = effective_update_ratio(record.slope_NT[rows_N], mask_NT[rows_N], inputs["group"][rows_N])
        assert eur[name] == pytest.approx(part.item(), abs=1e-5), "TRL's log-probabilities are summed in another order"
        assert 0.1 < eur[name] < 0.9


def test_a_token_far_from_the_old_policy_leaves_the_update_finite(tmp_path: Path) -> None:
    """A log-ratio of 200 nats, where r is infinite in fp32; padding may hold anything."""
    ours = trainer(tmp_path, "erf")
    inputs = batch(ours.model)
    _, wanted = loss_and_gradient(ours, inputs)
    far_NT = inputs["old_per_token_logps"].clone()
    far_NT[2, 0] -= 200
    far_NT[1, -1] -= 200
    assert inputs["completion_mask"][1, -1] == 0
    loss, found = loss_and_gradient(ours, inputs | {"old_per_token_logps": far_NT})
    assert math.isfinite(loss)
    assert found.isfinite().all()
    assert 0 < (found - wanted).norm() < wanted.norm(), "only the one token has lost its share"


def run(folder: Path, gate: str | None, **settings: Any) -> tuple[Any, list[dict[str, float]]]:
    """The trainer after three updates, two over one generation and one over the next, and what TRL logged."""
    given = {"max_steps": 3, "learning_rate": 3e-3} | settings
    torch.manual_seed(0)
    one = trainer(folder, gate, logging_steps=1, save_strategy="no", **given)
    one.train()
    return one, [line for line in one.state.log_history if "loss" in line]


def test_twelve_updates_with_the_clip_are_trls(tmp_path: Path) -> None:
    """Six generations, each from the weights that the updates before left behind."""
    settings = {"max_steps": 12, "learning_rate": 1e-3}
    theirs, wanted = run(tmp_path / "theirs", None, **settings)
    ours, found = run(tmp_path / "ours", "clip", **settings)
    assert len(found) == len(wanted) == 12
    assert [line.get("reward") for line in found] == [line.get("reward") for line in wanted], "the same completions"
    for name, bound in (("loss", 5e-7), ("grad_norm", 1e-4)):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in wanted], abs=bound, rel=0)
    assert min(line["clip_ratio/region_mean"] for line in wanted[1::2]) > 0.05, "the clip acts in second iterations"
    moved, apart = 0.0, 0.0
    start = load_model("tiny", torch.device("cpu"), None)
    for before, a, b in zip(start.parameters(), ours.model.parameters(), theirs.model.parameters(), strict=True):
        moved, apart = max(moved, (a - before).abs().max().item()), max(apart, (a - b).abs().max().item())
    assert apart < 0.01 * moved


def test_eur_of_the_clip_is_by_prompt_and_trls_clip_ratio_by_token(tmp_path: Path) -> None:
    """TRL's leaves out tokens with A = 0 too; where neither makes a difference, they add up to 1."""
    ours, theirs = trainer(tmp_path, "clip"), trainer(tmp_path, None)
    inputs = batch(theirs.model)
    everyone = inputs | {"advantages": inputs["advantages"] + 1e-3, "group": torch.zeros(N, dtype=torch.long)}
    sums = []
    for given in (everyone, everyone | {"group": inputs["group"]}, inputs | {"group": everyone["group"]}):
        loss_and_gradient(theirs, given)
        loss_and_gradient(ours, given)
        sums.append(ours._metrics["train"]["eur"][-1] + theirs._metrics["train"]["clip_ratio/region_mean"][-1])
    assert sums[0] == pytest.approx(1, abs=1e-6)
    assert abs(sums[1] - 1) > 1e-3, "by prompt"
    assert abs(sums[2] - 1) > 1e-3, "with A = 0"


def test_a_run_logs_eur_of_every_update_whatever_its_micro_batches(tmp_path: Path) -> None:
    _, whole = run(tmp_path / "whole", "erf")
    trained, parts = run(tmp_path / "parts", "erf", per_device_train_batch_size=N // 3, gradient_accumulation_steps=3)
    assert len(whole) == len(parts) == 3
    assert [line["eur"] for line in whole] == pytest.approx([line["eur"] for line in parts], abs=1e-4)
    assert whole[0]["eur"] == pytest.approx(1, abs=1e-4), "on-policy"
    assert whole[0]["eur"] == whole[0]["eur/iteration_1"]
    assert all(lines[1]["eur"] == lines[1]["eur/iteration_2"] for lines in (whole, parts))
    assert whole[1]["eur"] < 0.99
    assert whole[1]["eur/positive"] != whole[1]["eur/negative"]
    assert not any(key.startswith("clip_ratio") for line in whole for key in line)
    assert all(line["grad_norm"] > 0 for line in whole)

    rows = [row for part in trained._buffered_inputs for row in zip(part["group"], part["prompt_ids"], strict=True)]
    prompts = {int(group): {tuple(ids.tolist()) for at, ids in rows if at == group} for group, _ in rows}
    assert sorted(prompts) == [3, 4, 5], "the second generation's three prompts"
    assert all(len(ids) == 1 for ids in prompts.values()), "one prompt each"
    assert len(set().union(*prompts.values())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "tanh"}, "gate must be one of sigmoid, erf, arctan, softsign, clip, none, .* or a Gate, got 'tanh'"),
        ({"tau": (10, -1)}, "tau.neg must be in .1e-6, 1e6., what fp32 can hold the slope at, got -1; type tau=paper"),
        ({"tau": 10}, r"tau must be a pair \(tau.pos, tau.neg\), got 10; the paper's is \(10, 12\)"),
        ({"loss_type": "sapo"}, "loss_type must be one of grpo, bnpo, dr_grpo, dapo, luspo, got 'sapo'; here it picks"),
        ({"loss_type": "cispo"}, "loss_type must be one of .*, got 'cispo'; here it picks the aggregation only"),
        ({"loss_type": "vespo"}, "loss_type must be one of .*, got 'vespo'; here it picks the aggregation only"),
        ({"epsilon": 0.1}, r"epsilon must be left out beside a gate, where it does nothing, got 0.1; give .*eps_low"),
        ({"epsilon_high": 0.28}, r"epsilon_high must be left out beside a gate, .* got 0.28; give .*eps_high"),
        ({"delta": 3.0}, "delta must be left out beside a gate, .* got 3.0; give .*get.'dual_clip', c="),
        ({"vespo_k_neg": 4.0}, "vespo_k_neg must be left out .* got 4.0; give loss_type='vespo' to TRL's own"),
        ({"sapo_temperature_pos": 10.0}, "sapo_temperature_pos must be left out .* give tau="),
    ],
)
def test_what_could_not_act_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        trainer(tmp_path, **{"gate": "erf"} | options)


def test_one_iteration_is_said_to_make_all_gates_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, "erf", num_iterations=1)
    assert "all gates act the same" in caplog.text
