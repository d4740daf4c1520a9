"""Five updates with every trainer: ``torchrun --nproc-per-node N -m tests.stack.engines FOLDER``.

Writes ``FOLDER/NAME-N-ACCUMULATION.pt`` with the losses, gradient norms and final weights of each.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from gatepo.engine.base import EngineOption, EngineParts, PolicyEngine
from gatepo.engine.deepspeed import DeepSpeed
from gatepo.engine.optimizer import AdamW
from gatepo.engine.torch import Torch
from gatepo.model import load_model
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau
from gatepo.types import TokenBatch
from gatepo.world import World, join

COMPLETIONS, UPDATES = 16, 5
SETTINGS = AdamW(
    lr=1e-3,
    eps=1e-5,  # keeps Adam from blowing the last bit of a tiny gradient up to a whole step
    weight_decay=0.01,
    max_grad_norm=0.05,  # below the norm of these gradients: clipping is at work
)
OBJECTIVE = Objective(
    gate=gates.get("erf"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
)


def batch() -> TokenBatch:
    """Sixteen completions of many lengths in four groups; the last rank's have few that learn."""
    generator = torch.Generator().manual_seed(1)
    N, T = COMPLETIONS, 24
    prompt_N1 = torch.randint(3, 6, (N, 1), generator=generator)
    end_N1 = prompt_N1 + torch.randint(1, T - 6, (N, 1), generator=generator)
    at = torch.arange(T)[None]
    attention_NT = at < end_N1
    advantage_N = torch.randn(N, generator=generator)
    advantage_N[9:14] = 0  # ranks then have different numbers of passes of each kind
    return TokenBatch(
        ids_NT=torch.randint(7, 300, (N, T), generator=generator).where(attention_NT, torch.tensor(0)),
        completion_NT=attention_NT & (at >= prompt_N1),
        attention_NT=attention_NT,
        advantage_N=advantage_N,
        group_N=torch.arange(N) // 4,
        sampler_logp_NT=torch.zeros(N, T),
    )


def share(whole: TokenBatch, world: World) -> TokenBatch:
    return whole.rows(torch.tensor(world.share(range(len(whole)))))


def train(engine: PolicyEngine, world: World) -> dict[str, object]:
    """Losses, gradient norms and weights of a few updates on one batch; the first captures the anchor."""
    whole = batch()
    mine = share(whole, world)
    totals = Totals(completions=len(whole), tokens=int(whole.completion_NT.sum()))
    anchor_NT, losses, norms = None, [], []
    for _ in range(UPDATES):
        step = engine.update(mine, anchor_NT, totals, OBJECTIVE)
        anchor_NT = step.logp_NT if anchor_NT is None else anchor_NT
        losses.append(step.loss)
        norms.append(step.grad_norm)
    weights = {name: tensor.detach().clone() for name, tensor in engine.weights()}
    return {"losses": losses, "norms": norms, "weights": weights}


def parts(model: PreTrainedModel, micro: int, world: World) -> EngineParts:
    return EngineParts(
        model=model,
        optimizer=SETTINGS,
        updates=20,
        micro=micro,
        micro_tokens=None if micro == COMPLETIONS // world.size else 40,  # both bounds are at work
        head_mib=1,
        temperature=1.0,
        dtype=torch.float32,
        world=world,
    )


@dataclass(frozen=True)
class GradientDescent(AdamW):
    """A step of the whole gradient: what the weights lose is what was added up."""

    def make(self, parameters, *, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)


def gradient_in_bf16(zero_stage: int, world: World) -> dict[str, torch.Tensor]:
    """The gradient that reaches the fp32 weights from passes in bf16, one completion at a time."""
    from deepspeed.utils import safe_get_full_fp32_param

    model = load_model("tiny", torch.device("cpu"), None)
    before = {name: parameter.detach().bfloat16().float() for name, parameter in model.named_parameters()}
    option = DeepSpeed(zero_stage=zero_stage, persistence_threshold=0)
    optimizer = GradientDescent(lr=1.0, schedule="constant", max_grad_norm=float("inf"))
    engine = option.make(replace(parts(model, 1, world), dtype=torch.bfloat16, optimizer=optimizer))
    whole = batch()
    totals = Totals(completions=len(whole), tokens=int(whole.completion_NT.sum()))
    engine.update(share(whole, world), None, totals, OBJECTIVE)
    return {name: before[name] - safe_get_full_fp32_param(parameter) for name, parameter in model.named_parameters()}


def main() -> None:
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    world = join()
    for accumulation in (1, 4):
        micro = COMPLETIONS // world.size // accumulation
        for name in ("torch", "zero0", "zero1", "zero2", "zero3", "offload2"):
            model = load_model("tiny", torch.device("cpu"), None)
            option: EngineOption = Torch()
            if name != "torch":
                option = DeepSpeed(
                    zero_stage=int(name[-1]),
                    offload_optimizer=name.startswith("offload"),
                    persistence_threshold=0,  # this model's weights are all so small that none would be sharded
                )
            engine = option.make(parts(model, micro, world))
            result = train(engine, world)
            if name == "zero3":
                result["whole"] = max(sum(p.numel() for p in model.parameters()) for _ in engine.weights())
                engine.save(folder / f"checkpoint-{world.size}-{accumulation}")
                straight = train(engine, world)["losses"]
                engine.load(folder / f"checkpoint-{world.size}-{accumulation}")
                result["straight"], result["resumed"] = straight, train(engine, world)["losses"]
                engine.export(folder / f"model-{world.size}-{accumulation}")
                result["exported"] = {name: tensor.detach().clone() for name, tensor in engine.weights()}
            if world.first:
                torch.save(result, folder / f"{name}-{world.size}-{accumulation}.pt")
    for zero_stage in (1, 2, 3):
        gradient = gradient_in_bf16(zero_stage, world)
        if world.first:
            torch.save(gradient, folder / f"bf16-zero{zero_stage}-{world.size}.pt")
    world.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
