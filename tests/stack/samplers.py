"""vLLM beside transformers and the trainer: ``python -m tests.stack.samplers FOLDER tied|untied``.

Writes ``FOLDER/KIND.json`` with everything that the tests look at. A process of its own: vLLM keeps global state.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from gatepo import tiny
from gatepo.data.sources import Row
from gatepo.data.template import PromptTemplate
from gatepo.engine.torch import TorchEngine
from gatepo.errors import TrainingStopped
from gatepo.model import load_tokenizer
from gatepo.rewards.reward import AnswerAndFormat
from gatepo.rollout.sync import WeightSync
from gatepo.rollout.transformers import TransformersRollout
from gatepo.rollout.vllm import VllmRollout
from gatepo.types import Completion, Prompt, Sampling
from gatepo.world import World
from tests.stack.attestation import VOCABULARY, make_model, vllm
from tests.stack.engines import parts

SAMPLING = Sampling(temperature=0.8, max_completion_length=48, num_generations=8)


def shake(model: PreTrainedModel) -> None:
    """Change every weight a little."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))


def last_words(sampler: VllmRollout, prompts: list[Prompt]) -> str | None:
    """What a user reads when vLLM fails while it samples."""
    sampler._llm.apply_model(_break)
    try:
        sampler.generate(prompts, SAMPLING, 0)
    except TrainingStopped as error:
        return str(error)
    return None


def _break(model: torch.nn.Module) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("a fault in the last layer")

    model.model.norm.forward = faulty


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model, tokenizer = make_model(folder, kind), load_tokenizer("tiny")
    engine = TorchEngine(replace(parts(model, 8, World()), temperature=SAMPLING.temperature))
    plain = TransformersRollout(model, tokenizer, 256, torch.float32)
    sampler = vllm(folder, torch.float32)
    template = PromptTemplate(tokenizer=tokenizer, system=None, max_length=128)
    rows = [json.loads(line) for line in Path(tiny.locate("tiny:words")).read_text().splitlines()[:64]]
    prompts = [template(i, "words", Row(question=row["question"], answer=row["answer"])) for i, row in enumerate(rows)]
    found: dict[str, object] = {"tied": model.config.tie_word_embeddings}

    sync = WeightSync(engine, sampler, VOCABULARY, 1e-3, torch.float32, torch.device("cpu"), World())
    found["noise"] = sync.difference().rms
    groups = sampler.generate(prompts, SAMPLING, 0)
    found["sampling_difference"] = max(worst(model, g.prompt, c) for g in groups[:8] for c in g.completions)
    alone = sampler.generate(prompts[3:4], SAMPLING, 0)[0]
    found["same_alone"] = [c.token_ids for c in alone.completions] == [c.token_ids for c in groups[3].completions]
    found["other_seed_differs"] = sampler.generate(prompts[3:4], SAMPLING, 1)[0] != alone
    found["distinct"] = len({c.token_ids for c in groups[3].completions})
    found["completion"] = asdict(groups[0].completions[0])
    found["finished"] = [c.finished == (c.token_ids[-1] == 2) for g in groups for c in g.completions]
    found["lengths"] = [len(c.token_ids) for g in groups for c in g.completions]

    reward = AnswerAndFormat().make()
    found["rewards_vllm"] = [r.total for row in reward(groups) for r in row]
    found["rewards_transformers"] = [r.total for row in reward(plain.generate(prompts, SAMPLING, 5)) for r in row]
    reward.close()

    shake(model)
    found["difference_before"] = sync.difference().rms
    sync(3)
    found["difference_after"] = sync.difference().rms
    found["version"] = sampler.generate(prompts[:1], SAMPLING, 0)[0].completions[0].policy_version

    found["death"] = last_words(sampler, prompts[:2])
    (folder / f"{kind}.json").write_text(json.dumps(found))
    sampler.close()
    os._exit(0)


def worst(model: PreTrainedModel, prompt: Prompt, completion: Completion) -> float:
    """Largest difference of the sampler's log-probabilities from a plain forward pass, nats."""
    ids = torch.tensor([prompt.token_ids + completion.token_ids])
    with torch.no_grad():
        logp_TV = torch.log_softmax(model(ids).logits[0, len(prompt.token_ids) - 1 : -1] / SAMPLING.temperature, -1)
    logp_T = logp_TV.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
    return (logp_T - torch.tensor(completion.sampler_logp)).abs().max().item()


if __name__ == "__main__":
    main()
