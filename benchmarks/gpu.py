"""The update on one GPU beside TRL's: ``python -m benchmarks.gpu`` (make bench-gpu), records it in bench.json.

Qwen2 shapes of 0.5B and 1.5B parameters with random weights, bf16 body; one rollout batch of fixed token ids, so that
only forward, backward and optimizer are timed. Each side in a process of its own, all in turn. MFU counts the FLOPs of
:mod:`gatepo.plan.cost` (6 per weight and token, and attention; the head for completion tokens alone) over the peak of
:mod:`gatepo.plan.hardware`; recomputed activations do not count. TRL's side is its loss, through its trainer's own
forward pass, AdamW and clipping as its trainer has them.

``--shape tiny --device cpu`` runs the same code small, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import figures
from benchmarks.rows import BENCH, record, row, show
from gatepo.engine.base import EngineParts
from gatepo.engine.optimizer import AdamW
from gatepo.engine.torch import TorchEngine
from gatepo.memory import KEPT_MIB
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau
from gatepo.plan import cost
from gatepo.plan.measured import this_hardware
from gatepo.plan.shape import from_config
from gatepo.plan.work import Layout, Workload
from gatepo.types import TokenBatch
from gatepo.world import World

SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {"size": (896, 24, 14, 2, 4864), "vocabulary": 151_936, "tied": True, "micro": 8},
    "1.5b": {"size": (1536, 28, 12, 2, 8960), "vocabulary": 151_936, "tied": True, "micro": 4},
    "tiny": {"size": (64, 2, 2, 1, 128), "vocabulary": 512, "tied": True, "micro": 4},
}
COMPLETIONS, G = 32, 8
LEAST_MFU = 0.45  # the mark that this project set itself


def config(shape: str) -> Qwen2Config:
    """The Qwen2.5 shape of that size."""
    hidden, layers, heads, kv_heads, mlp = SHAPES[shape]["size"]
    return Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp,
        vocab_size=SHAPES[shape]["vocabulary"],
        tie_word_embeddings=SHAPES[shape]["tied"],
    )


def batch(shape: str, prompt: int, completion: int, device: torch.device) -> TokenBatch:
    """Random token ids; every completion has its full length and an advantage."""
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(SHAPES[shape]["vocabulary"], (COMPLETIONS, prompt + completion), generator=generator)
    completion_NT = (torch.arange(prompt + completion) >= prompt).expand_as(ids_NT).contiguous()
    return TokenBatch(
        ids_NT=ids_NT.to(device),
        completion_NT=completion_NT.to(device),
        attention_NT=torch.ones_like(completion_NT).to(device),
        advantage_N=torch.randn(COMPLETIONS, generator=generator).to(device),
        group_N=(torch.arange(COMPLETIONS) // G).to(device),
        sampler_logp_NT=torch.zeros(ids_NT.shape).to(device),
    )


def model_on(shape: str, device: torch.device) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    with device:
        return Qwen2ForCausalLM(config(shape)).float().eval()


def ours(shape: str, data: TokenBatch, device: torch.device) -> Any:
    """One update of the torch engine with the sigmoid gate."""
    parts = EngineParts(
        model=model_on(shape, device),
        optimizer=AdamW(lr=1e-6, schedule="constant"),
        updates=1000,
        micro=SHAPES[shape]["micro"],
        head_mib=KEPT_MIB,
        temperature=1.0,
        dtype=torch.bfloat16,
        world=World(),
    )
    engine = TorchEngine(parts)
    objective = Objective(
        gate=gates.get("sigmoid"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
    )
    totals = Totals(completions=COMPLETIONS, tokens=int(data.completion_NT.sum()))
    return lambda: engine.update(data, None, totals, objective)


def trl(shape: str, data: TokenBatch, device: torch.device) -> Any:
    """TRL's SAPO loss over the same micro-batches, in bf16 autocast as its trainer runs it."""
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    from gatepo.model import load_tokenizer

    tokenizer: PreTrainedTokenizerFast = load_tokenizer("tiny")
    model, micro = model_on(shape, device), SHAPES[shape]["micro"]
    folder = tempfile.mkdtemp()
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=folder,
            loss_type="sapo",
            per_device_train_batch_size=G,
            num_generations=G,
            beta=0.0,
            bf16=device.type == "cuda",
            use_cpu=device.type == "cpu",
            gradient_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    prompt = int((~data.completion_NT[0]).sum())

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        for first in range(0, COMPLETIONS, micro):
            rows = slice(first, first + micro)
            ids_NT = data.ids_NT[rows]
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = trainer._compute_loss(
                    model,
                    {
                        "prompt_ids": ids_NT[:, :prompt],
                        "prompt_mask": torch.ones_like(ids_NT[:, :prompt]),
                        "completion_ids": ids_NT[:, prompt:],
                        "completion_mask": torch.ones_like(ids_NT[:, prompt:]),
                        "advantages": data.advantage_N[rows],
                        "num_items_in_batch": data.completion_NT.sum(),
                    },
                )
            (loss * micro / COMPLETIONS).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def measure(side: str, shape: str, device: torch.device, lengths: tuple[int, int]) -> dict[str, float]:
    """Seconds of one update (median of five after two) and peak memory in MiB."""
    data = batch(shape, *lengths, device)
    update = {"ours": ours, "trl": trl}[side](shape, data, device)
    cuda = device.type == "cuda"
    seconds = []
    for number in range(7):
        if cuda:
            torch.cuda.synchronize()
        if number == 1 and cuda:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        update()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"seconds": median(seconds[2:]), "peak": torch.cuda.max_memory_allocated() / 2**20 if cuda else float("nan")}


def compare(shape: str, device: str, lengths: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    """Rows of one shape."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "trl": []}
    for number in range(rounds):
        for side, results in found.items():
            command = [sys.executable, "-m", "benchmarks.gpu", "--side", side, "--shape", shape, "--device", device]
            process = subprocess.run(
                [*command, "--lengths", *map(str, lengths)], capture_output=True, text=True, check=False, env=os.environ
            )
            if process.returncode != 0:
                print(f"{side} {shape} left out: {process.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            results.append(json.loads(process.stdout.splitlines()[-1]))
            print(f"round {number + 1} {shape} {side:<5} {results[-1]['seconds']:.3f} s an update", flush=True)
    if not found["ours"]:
        return []
    seconds = {side: median(r["seconds"] for r in results) for side, results in found.items() if results}
    peak = {side: median(r["peak"] for r in results) for side, results in found.items() if results}
    tokens, key = COMPLETIONS * sum(lengths), shape.replace(".", "_")
    rows = []
    if "trl" in seconds:
        rows += [
            row(f"seconds_{key}", f"update {shape}, against TRL 1.16", seconds["ours"], seconds["trl"], "s"),
            row(f"memory_{key}", f"peak memory {shape}, against TRL 1.16", peak["ours"], peak["trl"], "MiB"),
            row(f"tokens_{key}", f"tokens {shape}", tokens / seconds["ours"], tokens / seconds["trl"], "1/s"),
        ]
    hardware = this_hardware()
    if hardware is not None:
        work = Workload(
            prompts=COMPLETIONS // G,
            num_generations=G,
            iterations=1,
            updates=1,
            devices=1,
            micro=SHAPES[shape]["micro"],
            max_sequences=COMPLETIONS,
            prompt_length=lengths[0],
            completion_length=lengths[1],
        )
        layout = Layout(dtype="bfloat16", weights=4, autocast=True)
        flops = cost.flops(from_config(shape, config(shape)), work, layout, work.prompts)
        mfu = (flops.body + flops.head) / seconds["ours"] / hardware.bfloat16
        rows.append(row(f"mfu_{key}", f"MFU of the update {shape}, against the mark", mfu, LEAST_MFU, "1"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--side", choices=("ours", "trl"))
    parser.add_argument("--shape", choices=tuple(SHAPES), nargs="+", default=["0.5b", "1.5b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lengths", type=int, nargs=2, default=(512, 512), help="tokens of prompts and completions")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BENCH, help="another file to record in")
    options = parser.parse_args()
    device, lengths = torch.device(options.device), (options.lengths[0], options.lengths[1])
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a GPU; --shape tiny --device cpu shows that it runs")
    if options.side:
        print(json.dumps(measure(options.side, options.shape[0], device, lengths)), flush=True)
        return
    rows = [r for shape in options.shape for r in compare(shape, options.device, lengths, options.rounds)]
    show(rows)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    if not record("gpu", rows, options.out, name, "python -m benchmarks.gpu"):
        raise SystemExit(1)
    if options.out == BENCH:
        figures.main([])


if __name__ == "__main__":
    main()
