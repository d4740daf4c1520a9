"""The gradient of one update beside TRL's own loss (extra ``trl``)."""

from pathlib import Path

import pytest
import torch

from gatepo.engine.policy import Policy
from gatepo.model import load_model, load_tokenizer
from gatepo.objective import gates
from gatepo.objective.advantage import GroupZScore
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective, policy_loss
from gatepo.objective.tau import ConstantTau

trl = pytest.importorskip("trl", reason="trl is not installed; make test installs it")
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPT, LENGTH, P, G = 5, 12, 3, 4
N = P * G


def trainer(folder: Path, loss_type: str):
    """TRL's trainer around the embedded model; only its loss is used."""
    from datasets import Dataset

    return trl.GRPOTrainer(
        model=load_model("tiny", torch.device("cpu"), None),
        processing_class=load_tokenizer("tiny"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(
            output_dir=str(folder),
            loss_type=loss_type,
            epsilon=0.2,
            epsilon_high=0.2,
            sapo_temperature_pos=10.0,
            sapo_temperature_neg=12.0,
            beta=0.0,
            per_device_train_batch_size=N,
            num_generations=G,
            bf16=False,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
    )


@pytest.mark.parametrize(("loss_type", "gate"), [("grpo", "clip"), ("sapo", "sigmoid")])
def test_the_gradient_of_an_update_equals_trls(tmp_path: Path, loss_type: str, gate: str) -> None:
    """Same weights, completions, rewards and old log-probabilities, far enough from these for the gates to act."""
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(7, 300, (N, PROMPT + LENGTH), generator=generator)
    length_N1 = torch.randint(1, LENGTH + 1, (N, 1), generator=generator)
    mask_NT = torch.arange(LENGTH)[None] < length_N1
    reward_PG = torch.randint(0, 3, (P, G), generator=generator).float()
    advantage_N = GroupZScore()(reward_PG).flatten()
    assert (advantage_N > 0).any()
    assert (advantage_N < 0).any()

    theirs = trainer(tmp_path, loss_type)
    model = theirs.model.eval()
    policy = Policy(model, 1.0, torch.float32)
    completion_NT = torch.cat([torch.zeros(N, PROMPT, dtype=torch.bool), mask_NT], dim=1)
    logp_NT, entropy_NT = policy(ids_NT, completion_NT)
    shift_NT = 0.3 * torch.randn(logp_NT.shape, generator=generator)
    anchor_NT = (logp_NT + shift_NT).detach()

    loss = theirs._compute_loss(
        model,
        {
            "prompt_ids": ids_NT[:, :PROMPT],
            "prompt_mask": torch.ones(N, PROMPT, dtype=torch.long),
            "completion_ids": ids_NT[:, PROMPT:],
            "completion_mask": mask_NT.long(),
            "advantages": advantage_N,
            "old_per_token_logps": anchor_NT[:, PROMPT - 1 :],
            "num_items_in_batch": mask_NT.sum(),
        },
    )
    wanted = torch.autograd.grad(loss, list(model.parameters()))

    options = {"eps_low": 0.2, "eps_high": 0.2} if gate == "clip" else {}
    objective = Objective(
        gate=gates.get(gate, **options),
        tau=ConstantTau(pos=10, neg=12),
        ratio=TokenRatio(),
        aggregation=SequenceMean(),
    )
    ours, _ = policy_loss(
        objective,
        logp_NT=logp_NT,
        anchor_NT=anchor_NT,
        sampler_NT=anchor_NT,
        entropy_NT=entropy_NT,
        advantage_N=advantage_N,
        mask_NT=completion_NT[:, 1:],
        totals=Totals(completions=N, tokens=int(mask_NT.sum())),
    )
    found = torch.autograd.grad(ours, list(model.parameters()))
    norm = torch.cat([g.flatten() for g in wanted]).norm()
    assert norm > 0.1
    for (name, _), a, b in zip(model.named_parameters(), found, wanted, strict=True):
        assert (a - b).norm() < 1e-5 * norm, name
