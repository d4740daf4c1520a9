"""The gradient of one update beside TRL's own loss (extra ``trl``)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from composed import typed

from gatepo import build, tiny
from gatepo.engine.policy import Policy
from gatepo.model import load_tokenizer
from gatepo.objective.advantage import GroupZScore
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import policy_loss

trl = pytest.importorskip("trl", reason="trl is not installed; make test installs it")
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPT, LENGTH, P, G = 5, 12, 3, 4
N = P * G
GSPO = {"epsilon": 3e-4, "epsilon_high": 4e-4}


# settings of TRL's, and how far pi_old is: far enough for the gate to act on part of the tokens or sequences, nats
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "grpo": ({"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}, 0.3),
    "sapo": ({"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}, 0.3),
    "dr_grpo": ({"loss_type": "dr_grpo", "max_completion_length": LENGTH}, 0.3),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, 0.3),
    "dual_clip": ({"loss_type": "dapo", "delta": 3.0}, 1.0),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 5.0}, 1.0),
    "gspo": ({"loss_type": "grpo", "importance_sampling_level": "sequence", **GSPO}, 1e-3),
    "luspo": ({"loss_type": "luspo", "importance_sampling_level": "sequence", **GSPO}, 1e-3),
    "vespo": ({"loss_type": "vespo"}, 0.05),
}


def trainer(folder: Path, options: dict[str, Any]):
    """TRL's trainer around the embedded model; only its loss is used."""
    from datasets import Dataset

    given = {"epsilon": 0.2, "epsilon_high": 0.2, "beta": 0.0, "max_completion_length": LENGTH} | options
    return trl.GRPOTrainer(
        model=str(tiny.locate("tiny")),
        processing_class=load_tokenizer("tiny"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(
            output_dir=str(folder),
            model_init_kwargs={"dtype": torch.float32},
            per_device_train_batch_size=N,
            num_generations=G,
            bf16=False,
            use_cpu=True,
            report_to="none",
            **given,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_an_update_equals_trls(tmp_path: Path, method: str) -> None:
    """Same weights, completions, rewards and old log-probabilities, far enough from these for the gates to act."""
    options, spread = METHODS[method]
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(7, 300, (N, PROMPT + LENGTH), generator=generator)
    length_N1 = torch.randint(1, LENGTH + 1, (N, 1), generator=generator)
    mask_NT = torch.arange(LENGTH)[None] < length_N1
    reward_PG = torch.randint(0, 3, (P, G), generator=generator).float()
    advantage_N = GroupZScore()(reward_PG).flatten()
    assert (advantage_N > 0).any()
    assert (advantage_N < 0).any()

    theirs = trainer(tmp_path, options)
    model = theirs.model.eval()
    policy = Policy(model, 1.0, torch.float32)
    completion_NT = torch.cat([torch.zeros(N, PROMPT, dtype=torch.bool), mask_NT], dim=1)
    logp_NT, entropy_NT = policy(ids_NT, completion_NT)
    anchor_NT = (logp_NT + spread * torch.randn(logp_NT.shape, generator=generator)).detach()
    reference_NT = (logp_NT + 0.2 * torch.randn(logp_NT.shape, generator=generator)).detach()

    loss = theirs._compute_loss(
        model,
        {
            "prompt_ids": ids_NT[:, :PROMPT],
            "prompt_mask": torch.ones(N, PROMPT, dtype=torch.long),
            "completion_ids": ids_NT[:, PROMPT:],
            "completion_mask": mask_NT.long(),
            "advantages": advantage_N,
            "old_per_token_logps": anchor_NT[:, PROMPT - 1 :],
            "ref_per_token_logps": reference_NT[:, PROMPT - 1 :],
            "num_items_in_batch": mask_NT.sum(),
        },
    )
    wanted = torch.autograd.grad(loss, list(model.parameters()))

    ours, record = policy_loss(
        build.objective(typed(f"+method={method}", f"sampling.max_completion_length={LENGTH}")),
        logp_NT=logp_NT,
        anchor_NT=anchor_NT,
        sampler_NT=anchor_NT,
        reference_NT=reference_NT,
        entropy_NT=entropy_NT,
        advantage_N=advantage_N,
        mask_NT=completion_NT[:, 1:],
        totals=Totals(completions=N, tokens=int(mask_NT.sum())),
    )
    found = torch.autograd.grad(ours, list(model.parameters()))
    assert not torch.all(record.slope_NT[completion_NT[:, 1:]] == 1)
    norm = torch.cat([g.flatten() for g in wanted]).norm()
    assert norm > 0.05
    for (name, _), a, b in zip(model.named_parameters(), found, wanted, strict=True):
        assert (a - b).norm() < 2e-5 * norm, name
