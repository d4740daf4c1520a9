"""vLLM behind :class:`~gatepo.rollout.base.RolloutEngine` against vLLM alone: 128 completions of the embedded model.

Both in one process, in turn, on the same engine; a process of its own for the whole, since vLLM is not left tidily.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks.rows import row

PROMPTS, G, LENGTH = 16, 8, 64


def rows(rounds: int = 3) -> list[dict[str, Any]]:
    """Two rows: against the engine with the same requests, and with requests that have no seed of their own."""
    if find_spec("vllm") is None:
        print("sampler: left out, vllm is not installed (make .venv/test)")
        return []
    found: dict[str, list[float]] = {"ours": [], "alone": [], "unseeded": []}
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-m", "benchmarks.sampler"], check=True, capture_output=True, text=True)
        for way, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            found[way] += seconds
    ours, alone, unseeded = (median(found[way]) for way in ("ours", "alone", "unseeded"))
    return [
        row("alone", "128 completions, rollout=vllm against vLLM alone with the same requests", ours, alone, "s"),
        row("unseeded", "128 completions, rollout=vllm against vLLM alone without seeds", ours, unseeded, "s"),
    ]


def measure(times: int = 7) -> dict[str, list[float]]:
    """Give the seconds of each way, in turn; the first of each is not counted."""
    import torch

    from gatepo.model import load_tokenizer
    from gatepo.rollout.base import RolloutParts, completion_seed
    from gatepo.rollout.vllm import Vllm
    from gatepo.types import Prompt, Sampling
    from gatepo.world import World

    tokenizer = load_tokenizer("tiny")
    parts = RolloutParts(
        model_path="tiny", module=None, tokenizer=tokenizer, dtype=torch.float32, context=256, seed=0, world=World()
    )
    rollout: Any = Vllm(max_sequences=PROMPTS * G).make(parts)
    from vllm import SamplingParams

    ids = [tuple(tokenizer(f"What is {i} + {3 * i + 5}?")["input_ids"]) for i in range(PROMPTS)]
    prompts = [Prompt(index=i, source="", question="", answer="", token_ids=one) for i, one in enumerate(ids)]
    sampling = Sampling(temperature=1.0, max_completion_length=LENGTH, num_generations=G)
    requests = [{"prompt_token_ids": list(one)} for one in ids for _ in range(G)]
    ends = rollout._ends

    def params(seed: int, seeded: bool) -> list[Any]:
        own = [completion_seed(seed, i, g) if seeded else None for i in range(PROMPTS) for g in range(G)]
        more = {"top_p": 1.0, "top_k": 0, "max_tokens": LENGTH, "stop_token_ids": ends, "detokenize": False}
        return [SamplingParams(temperature=1.0, logprobs=0, seed=one, **more) for one in own]

    def alone(seed: int, seeded: bool) -> None:
        rollout._llm.generate(requests, params(seed, seeded), use_tqdm=False)

    ways: dict[str, Callable[[int], object]] = {
        "ours": lambda seed: rollout.generate(prompts, sampling, seed),
        "alone": lambda seed: alone(seed, True),
        "unseeded": lambda seed: alone(seed, False),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(times + 1):
        for way, run in ways.items():
            rollout._llm.reset_prefix_cache()
            started = time.perf_counter()
            run(seed)
            found[way].append(time.perf_counter() - started)
    return {way: seconds[1:] for way, seconds in found.items()}


if __name__ == "__main__":
    print(json.dumps(measure()), flush=True)
    os._exit(0)
