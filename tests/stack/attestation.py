"""What attestation says of a sampler that is left with stale weights after one update at the paper's learning rate.

``python -m tests.stack.attestation FOLDER tied|untied SYNCS`` asks vLLM, in both precisions, and writes
``FOLDER/KIND.json``. A process of its own: vLLM keeps global state.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from gatepo.engine.base import EngineParts, PolicyEngine
from gatepo.engine.optimizer import AdamW
from gatepo.engine.torch import TorchEngine
from gatepo.errors import TrainingStopped
from gatepo.model import load_model, load_tokenizer
from gatepo.objective.aggregation import Totals
from gatepo.rollout import vllm as vllm_module
from gatepo.rollout.base import RolloutParts
from gatepo.rollout.sync import WeightSync
from gatepo.rollout.vllm import Vllm, VllmRollout
from gatepo.world import World
from tests.stack.engines import OBJECTIVE, batch, parts

VOCABULARY = 300  # of the probe
QUERY = "model.layers.2.self_attn.q_proj.weight"  # vLLM fuses it with keys and values
DOWN = "model.layers.1.mlp.down_proj.weight"
PAPER = AdamW(lr=1e-6)


def make_model(folder: Path, kind: str) -> PreTrainedModel:
    """The embedded model, its head tied to the embedding or not, in ``folder/model``."""
    model = load_model("tiny", torch.device("cpu"), None)
    if kind == "tied":
        config = model.config
        config.tie_word_embeddings = True
        tied = AutoModelForCausalLM.from_config(config)
        tied.load_state_dict({k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}, strict=False)
        tied.tie_weights()
        model = tied.eval()
    model.save_pretrained(folder / "model")
    load_tokenizer("tiny").save_pretrained(folder / "model")
    return load_model(str(folder / "model"), torch.device("cpu"), None)


def vllm(folder: Path, dtype: torch.dtype) -> VllmRollout:
    """vLLM with the model in ``folder``."""
    found = RolloutParts(
        model_path=str(folder / "model"),
        module=None,
        tokenizer=load_tokenizer("tiny"),
        dtype=dtype,
        context=192,
        seed=0,
        world=World(),
    )
    made = Vllm(max_sequences=128, memory=0.3).make(found)
    assert isinstance(made, VllmRollout)
    return made


def trainer(model: PreTrainedModel, dtype: torch.dtype, optimizer: AdamW = PAPER, updates: int = 10**6) -> TorchEngine:
    """A trainer as the paper has it; the learning rate stays where it is."""
    made: EngineParts = replace(
        parts(model, 16, World()), dtype=dtype, optimizer=replace(optimizer, schedule="constant"), updates=updates
    )
    return TorchEngine(made)


def step(engine: PolicyEngine) -> None:
    whole = batch()
    engine.update(whole, None, Totals(completions=len(whole), tokens=int(whole.completion_NT.sum())), OBJECTIVE)


@dataclass
class StaleTrainer:
    """It leaves one parameter out of its weights the first time, or sends an old copy of it."""

    engine: PolicyEngine
    name: str
    old: Tensor | None
    sent: bool = False

    def logprobs(self, *arguments: Any, **named: Any) -> Tensor:
        return self.engine.logprobs(*arguments, **named)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        first, self.sent = not self.sent, True
        for name, tensor in self.engine.weights():
            if not (first and name == self.name):
                yield name, tensor
            elif self.old is not None:
                yield name, self.old


def without(sampler: Any, *names: str) -> Callable[[Iterable[tuple[str, Tensor]], int], None]:
    """The sampler's own loading, which does not hear of some weights."""
    loading = type(sampler).load_weights

    def load(weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        loading(sampler, ((name, tensor) for name, tensor in weights if name not in names), version)

    return load


def deaf(weights: Iterable[tuple[str, Tensor]], version: int) -> None:
    for _ in weights:
        pass


def refusal(sync: WeightSync, version: int) -> str | None:
    """What the sync stops the run with."""
    try:
        sync(version)
    except TrainingStopped as error:
        return str(error)
    return None


def verdicts(engine: PolicyEngine, sampler: Any, dtype: torch.dtype, head: str, syncs: int) -> dict[str, Any]:
    """What is said of right syncs after each update, then of each fault at the first sync that has it."""

    def attested(engine: Any = engine) -> WeightSync:
        return WeightSync(engine, sampler, VOCABULARY, 1e-3, dtype, torch.device("cpu"), World())

    found: dict[str, Any] = {}
    sync = attested()
    refusals = []
    for version in range(syncs):
        step(engine)
        refusals.append(refusal(sync, version))
    found["right"] = [words for words in refusals if words is not None]
    found["difference"] = sync.difference().rms
    faults = {"all": deaf, "query": without(sampler, QUERY), "down": without(sampler, DOWN)}
    faults["head"] = without(sampler, head)
    for name, load in faults.items():
        step(engine)
        sampler.load_weights = load
        found[name] = refusal(sync, syncs)
        del sampler.load_weights
        assert refusal(sync, syncs) is None
    for name, keep in (("left_out", False), ("old_value", True)):
        stale = StaleTrainer(engine, DOWN, None, sent=True)
        sync = attested(stale)
        stale.old = dict(engine.weights())[DOWN].detach().clone() if keep else None
        step(engine)
        stale.sent = False
        found[name] = refusal(sync, syncs)
        sampler.load_weights(engine.weights(), syncs)
    return found


def head_of(kind: str) -> str:
    return "model.embed_tokens.weight" if kind == "tied" else "lm_head.weight"


def main() -> None:
    folder, kind, syncs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model(folder, kind)
        engine, sampler = trainer(model, dtype), vllm(folder, dtype)
        said = verdicts(engine, sampler, dtype, head_of(kind), syncs)
        sync = WeightSync(engine, sampler, VOCABULARY, 1e-3, dtype, torch.device("cpu"), World())
        step(engine)
        pack, vllm_module._pack_tied_head = vllm_module._pack_tied_head, lambda model: None
        said["packed_head"] = refusal(sync, syncs)
        vllm_module._pack_tied_head = pack
        found[str(dtype).removeprefix("torch.")] = said
        sampler.close()
    (folder / f"{kind}.json").write_text(json.dumps(found))
    os._exit(0)


if __name__ == "__main__":
    main()
