"""One side of the comparison per process: ``python -m benchmarks.sides ours FOLDER BATCHES``.

Prints one JSON object: seconds of each rollout batch after the first (one rollout, its reward, two updates), peak
resident memory in MiB, and what else the side knows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rows import peak_mib
from benchmarks.shape import ITERATIONS, LENGTH, PROMPTS, G
from gatepo.rewards.tags import answer_text, format_reward
from gatepo.rewards.verifier import Verifier
from gatepo.stopwatch import PARTS
from gatepo.types import Reward

N = PROMPTS * G
Product = Callable[[Any, Any], Any]  # of [M, K] and [N, K]: left @ right.T
VERIFY = Verifier(deadline=2.0)
MICRO = 32  # completions that ours puts through the model at once; TRL is no faster with less than all of them


def score(text: str, answer: str) -> Reward:
    """The paper's reward plus the share of digits, so that random text forms groups whose rewards differ."""
    parts = {"answer": float(VERIFY(answer, answer_text(text)).equal), "format": format_reward(text)}
    return Reward(total=sum(parts.values()) + sum(map(str.isdigit, text)) / LENGTH, parts=parts)


def ours(folder: Path, batches: int) -> dict[str, Any]:
    """gatepo's own loop with everything that a run does: telemetry, metrics file, progress bar."""
    from hydra import compose, initialize_config_dir

    from gatepo import build, config
    from gatepo.loop import train
    from gatepo.memory import keep_freed_memory
    from gatepo.model import load_tokenizer
    from gatepo.presets import register, yaml_dir
    from gatepo.schema import TrainConfig
    from gatepo.state import RunState
    from gatepo.tracking.files import FileTracker
    from gatepo.tracking.progress import ProgressTracker
    from gatepo.world import World

    keep_freed_memory()
    register()
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        composed = compose(
            "train",
            [
                "gate=sigmoid",
                f"model.path={folder / 'model'}",
                "data=gsm8k",
                "data.system=null",
                "data.sources.gsm8k.answer_marker=null",
                f"data.path={folder / 'prompts.jsonl'}",
                "optimizer.lr=1e-6",
                f"batch.micro={MICRO}",
                f"updates={batches * ITERATIONS}",
                "optimizer=tiny",
                "model.dtype=float32",
                "sampling.max_prompt_length=128",
                f"sampling.max_completion_length={LENGTH}",
            ],
        )
    settings = config.from_composed(TrainConfig, composed)
    model = settings.engine.load(settings.model.path, build.device(), settings.model.attention)
    tokenizer = load_tokenizer(settings.model.path)
    algorithm = replace(
        build.algorithm(settings, build.objective(settings), model, tokenizer, World()),
        reward=lambda groups: [[score(c.text, g.prompt.answer) for c in g.completions] for g in groups],
    )
    trackers = [
        FileTracker(folder / "metrics.jsonl", 0),
        ProgressTracker(settings.updates, ITERATIONS, 0, lambda line: None, bar=True),
    ]
    rows: list[dict[str, float]] = []
    hooks = [lambda state, metrics, t=t: t.log(state.update, metrics) for t in trackers]
    train(algorithm, RunState(seed=0), [*hooks, lambda state, metrics: rows.append(metrics)])
    per_batch = [rows[i : i + ITERATIONS] for i in range(0, len(rows), ITERATIONS)]
    spent = {
        part: median(sum(row[f"time/{part}"] for row in batch) for batch in per_batch[1:]) for part in (*PARTS, "other")
    }
    return {"seconds": [sum(row["step_time"] for row in batch) for batch in per_batch[1:]], "spent": spent}


def trl(folder: Path, batches: int) -> dict[str, Any]:
    """TRL's GRPOTrainer with the SAPO loss and transformers generation."""
    from datasets import load_dataset
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.within = Counter[str]()
            self.ends = [(time.perf_counter(), self.within.copy())]

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.ends.append((time.perf_counter(), self.within.copy()))

        def timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                started = time.perf_counter()
                found = method(*args)
                self.within[part] += time.perf_counter() - started
                return found

            return call

    rows = load_dataset("json", data_files=str(folder / "prompts.jsonl"), split="train")
    rows = rows.map(lambda row: {"prompt": row["question"] + "\n\n"})
    clock = Clock()
    trainer = GRPOTrainer(
        model=str(folder / "model"),
        reward_funcs=lambda completions, answer, **_: [
            score(c, a).total for c, a in zip(completions, answer, strict=True)
        ],
        args=_grpo_config(folder, batches),
        train_dataset=rows,
        callbacks=[clock],
    )
    trainer._generate = clock.timed("rollout", trainer._generate)
    trainer._generate_and_score_completions = clock.timed("collect", trainer._generate_and_score_completions)
    trainer.train()
    seconds, spent = [], []
    for (start, before), (end, after) in pairwise(clock.ends[::ITERATIONS][1:]):
        rollout, collect = after["rollout"] - before["rollout"], after["collect"] - before["collect"]
        seconds.append(end - start)
        spent.append({"rollout": rollout, "train": end - start - collect, "other": collect - rollout})
    return {"seconds": seconds, "spent": {part: median(s[part] for s in spent) for part in spent[0]}}


def _grpo_config(folder: Path, batches: int) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder / "trl"),
        loss_type="sapo",
        per_device_train_batch_size=N,
        gradient_accumulation_steps=1,
        num_generations=G,
        num_iterations=ITERATIONS,
        max_completion_length=LENGTH,
        max_steps=batches * ITERATIONS,
        learning_rate=1e-6,
        beta=0.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        model_init_kwargs={"dtype": "float32"},
    )


def floor(folder: Path, batches: int) -> dict[str, Any]:
    """One bare decode loop and two forward-backward passes on its tokens, nothing else."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    questions = [json.loads(line)["question"] + "\n\n" for line in (folder / "prompts.jsonl").open()][:PROMPTS]
    prompt_NT = torch.tensor(tokenizer(questions)["input_ids"]).repeat_interleave(G, dim=0)
    rollouts, updates = [], []
    for _ in range(batches):
        started = time.perf_counter()
        cache, token_NT, ids_NT = DynamicCache(config=model.config), prompt_NT, prompt_NT
        with torch.inference_mode():
            for _ in range(LENGTH):
                logits_NV = model(input_ids=token_NT, past_key_values=cache, logits_to_keep=1).logits[:, -1]
                token_NT = torch.multinomial(logits_NV.softmax(dim=-1), 1)
                ids_NT = torch.cat([ids_NT, token_NT], dim=1)
        rollouts.append(time.perf_counter() - started)
        ids_NT = ids_NT.clone()
        labels_NT = ids_NT.masked_fill(torch.arange(ids_NT.shape[1]) < prompt_NT.shape[1], -100)
        for _ in range(ITERATIONS):
            model.zero_grad()
            model(input_ids=ids_NT, labels=labels_NT, use_cache=False).loss.backward()
        updates.append(time.perf_counter() - started - rollouts[-1])
    spent = {"rollout": median(rollouts[1:]), "train": median(updates[1:]), "other": 0.0}
    return {"seconds": [a + b for a, b in zip(rollouts[1:], updates[1:], strict=True)], "spent": spent}


def products(folder: Path, batches: int) -> dict[str, Any]:
    """The matrix products of a rollout batch's linear layers alone, at the best rate that is known of this machine.

    Each token that has to be read is read once, forward and backward: what no exact way of training can leave out. The
    products are those of torch (MKL) or of oneDNN, whichever took less time.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    layers = [m.weight.detach() for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    head = [model.lm_head.weight.detach()]
    prompt = len(json.loads((folder / "prompts.jsonl").open().readline())["question"]) + 2
    found = {}
    for kernel, product in {"MKL": _by_torch, "oneDNN": _by_onednn}.items():
        found[kernel] = []
        for _ in range(batches):
            started = time.perf_counter()
            _forward(product, PROMPTS * prompt, layers)
            for _ in range(LENGTH - 1):
                _forward(product, N, layers)
            for _ in range(LENGTH):
                _forward(product, N, head)
            for _ in range(ITERATIONS * N // MICRO):
                _forward_and_backward(product, MICRO // G * prompt + MICRO * (LENGTH - 1), layers)
                _forward_and_backward(product, MICRO * LENGTH, head)
            found[kernel].append(time.perf_counter() - started)
    kernel = min(found, key=lambda name: median(found[name][1:]))
    return {"seconds": found[kernel][1:], "kernel": kernel}


def _by_torch(left: Any, right: Any) -> Any:
    return left @ right.T


def _by_onednn(left: Any, right: Any) -> Any:
    import torch

    return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")


def _forward(product: Product, tokens: int, weights: list[Any]) -> list[tuple[Any, Any]]:
    import torch

    inputs = {w.shape[1]: torch.ones(tokens, w.shape[1]) for w in weights}
    return [(inputs[w.shape[1]], product(inputs[w.shape[1]], w)) for w in weights]


def _forward_and_backward(product: Product, tokens: int, weights: list[Any]) -> None:
    for weight, (input_NI, output_NO) in zip(weights, _forward(product, tokens, weights), strict=True):
        product(output_NO, weight.T)  # the gradient of the input
        product(output_NO.T, input_NI.T)  # and of the weight


SIDES = {"ours": ours, "trl": trl, "floor": floor, "products": products}


def main() -> None:
    side, folder, batches = SIDES[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    replies, sys.stdout = sys.stdout, sys.stderr
    result = side(folder, batches)
    result["peak"] = peak_mib()
    print(json.dumps(result), file=replies, flush=True)
    os._exit(0)  # no other tool's shut-down belongs to the measurement


if __name__ == "__main__":
    main()
