"""LoRA with the real vLLM and the real DeepSpeed, in processes of their own: they keep global state.

``python -m tests.stack.adapters FOLDER vllm`` asks what attestation says of right and of stale syncs, and writes
``FOLDER/vllm.json``. ``torchrun --nproc-per-node 2 -m tests.stack.adapters FOLDER engines`` takes five updates with
every trainer, and writes ``FOLDER/NAME-BYTES.pt``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gatepo.engine.adapter import Lora
from gatepo.engine.base import EngineOption
from gatepo.engine.deepspeed import DeepSpeed
from gatepo.engine.optimizer import AdamW
from gatepo.engine.torch import Torch
from gatepo.model import load_model
from gatepo.rollout.sync import WeightSync
from gatepo.world import World, join
from tests.stack import attestation, engines

LORA = Lora(rank=4, alpha=8)
SYNCS = 3
HEAD = "lm_head.weight"
OPTIONS: dict[str, EngineOption] = {"torch": Torch()} | {
    f"zero{stage}": DeepSpeed(zero_stage=stage, persistence_threshold=0) for stage in range(4)
}
OPTIONS["offload2"] = DeepSpeed(zero_stage=2, offload_optimizer=True)
IN_BF16 = ("zero0", "zero2", "zero3")


def of_vllm(folder: Path) -> None:
    """In bf16 with steps that bf16 can see: what it does not see is no other weight."""
    found = {}
    for dtype, kind, rate in ((torch.float32, "untied", 1e-6), (torch.bfloat16, "tied", 1e-2)):
        model = LORA.attach(attestation.make_model(folder, kind), 0)
        engine = attestation.trainer(model, dtype, AdamW(lr=rate))
        sampler = attestation.vllm(folder, dtype)
        found[str(dtype).removeprefix("torch.")] = said(engine, sampler, dtype)
        sampler.close()
    (folder / "vllm.json").write_text(json.dumps(found))


def said(engine: Any, sampler: Any, dtype: torch.dtype) -> dict[str, Any]:
    """What is said of right syncs after each update, then of each fault at the first sync that has it."""

    def attested(engine: Any = engine) -> WeightSync:
        return WeightSync(engine, sampler, attestation.VOCABULARY, 1e-3, dtype, torch.device("cpu"), World())

    sync, right = attested(), []
    for version in range(SYNCS):
        attestation.step(engine)
        right.append(attestation.refusal(sync, version))
    found: dict[str, Any] = {"right": right, "difference": sync.difference().rms}
    query, down = attestation.QUERY, attestation.DOWN
    faults = {"all": attestation.deaf, "query": attestation.without(sampler, query)}
    for name, load in (faults | {"down": attestation.without(sampler, down)}).items():
        attestation.step(engine)
        sampler.load_weights = load
        found[name] = attestation.refusal(sync, SYNCS)
        del sampler.load_weights
        assert attestation.refusal(sync, SYNCS) is None
    for name, keep in (("left_out", False), ("old_value", True)):
        stale = attestation.StaleTrainer(engine, down, None, sent=True)
        sync = attested(stale)
        stale.old = dict(engine.weights())[down].detach().clone() if keep else None
        attestation.step(engine)
        stale.sent = False
        found[name] = attestation.refusal(sync, SYNCS)
        sampler.load_weights(engine.weights(), SYNCS)
    return found


def trained(name: str, dtype: torch.dtype, folder: Path, world: World) -> dict[str, Any]:
    """Five updates, and five more, once straight and once after going back by a checkpoint."""
    model = load_model("tiny", torch.device("cpu"), None)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters()}
    parts = replace(engines.parts(LORA.attach(model, 0), 4, world), dtype=dtype)
    engine = OPTIONS[name].make(parts)
    found = engines.train(engine, world)
    checkpoint = folder / f"checkpoint-{name}-{parts.dtype.itemsize}"
    engine.save(checkpoint)
    found["adapter"] = {n: weight.clone() for n, weight in engine.adapter_weights()}
    found["straight"] = engines.train(engine, world)["losses"]
    engine.load(checkpoint)
    found["resumed"] = engines.train(engine, world)["losses"]
    engine.export(folder / f"model-{name}-{parts.dtype.itemsize}")
    found["exported"] = {n: weight.detach().clone() for n, weight in engine.weights()}
    found["frozen"] = torch.equal(frozen[HEAD].to(dtype), found["exported"][HEAD].to(dtype))
    return found


def of_engines(folder: Path) -> None:
    world = join()
    for name in OPTIONS:
        for dtype in (torch.float32, torch.bfloat16):
            if dtype == torch.bfloat16 and name not in IN_BF16:
                continue
            found = trained(name, dtype, folder, world)
            if world.first:
                torch.save(found, folder / f"{name}-{dtype.itemsize}.pt")
    world.barrier()


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    {"vllm": of_vllm, "engines": of_engines}[sys.argv[2]](Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
