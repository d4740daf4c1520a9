"""The checks of :mod:`benchmarks.gpu_check`: each gives a line for everything that it has tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu
from gatepo.engine.base import EngineOption, EngineParts, PolicyEngine
from gatepo.engine.optimizer import AdamW
from gatepo.engine.torch import Torch
from gatepo.errors import TrainingStopped
from gatepo.memory import KEPT_MIB
from gatepo.objective import gates
from gatepo.objective.aggregation import SequenceMean, Totals
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau
from gatepo.schema import Model
from gatepo.types import TokenBatch
from gatepo.world import World

PROMPT, COMPLETION = 64, 64  # tokens
SPREAD = 0.1  # of log-probabilities: rounding to bf16 may differ by this share of it, as weight syncs allow


class Skipped(Exception):
    """A check that cannot be made here, and why."""


class Failed(Exception):
    """What a check saw, and should not have."""


Check = Callable[[torch.device], Iterator[tuple[str, str]]]
"""Gives the name of each thing that it has tried, with what it saw; raises where it saw something else."""


def require(holds: bool, words: str) -> str:
    """Return the words where what they say holds.

    Raises:
      Failed: it does not.
    """
    if not holds:
        raise Failed(words)
    return words


def shape_of(device: torch.device) -> str:
    """Give the model that is tried: on a GPU one of a real size."""
    return "0.5b" if device.type == "cuda" else "tiny"


def trainer(shape: str, dtype: torch.dtype, device: torch.device, option: EngineOption | None = None) -> PolicyEngine:
    """Make a trainer of random weights, the same each time."""
    option = option or Torch()
    # A GPU draws other weights than a CPU; the small model is drawn on the latter, to be the same on both.
    drawn_model = gpu.model_on(shape, torch.device("cpu") if shape == "tiny" else device)
    parts = EngineParts(
        model=drawn_model.to(device),
        optimizer=AdamW(lr=1e-4, schedule="constant"),
        updates=100,
        micro=gpu.SHAPES[shape]["micro"],
        head_mib=KEPT_MIB,
        temperature=1.0,
        dtype=dtype,
        world=World(),
    )
    return option.make(parts)


def step(engine: PolicyEngine, data: TokenBatch) -> Any:
    """Make one update on a batch, with the erf gate."""
    objective = Objective(
        gate=gates.get("erf"), tau=ConstantTau(pos=10, neg=12), ratio=TokenRatio(), aggregation=SequenceMean()
    )
    return engine.update(data, None, Totals(completions=len(data), tokens=int(data.completion_NT.sum())), objective)


def bf16(device: torch.device) -> Iterator[tuple[str, str]]:
    """Compare log-probabilities and the gradient of an update in bf16 with those in fp32."""
    shape = shape_of(device)
    data = gpu.batch(shape, PROMPT, COMPLETION, device)
    logp, gradient = [], []
    for dtype in (torch.float32, torch.bfloat16):
        engine = trainer(shape, dtype, device)
        logp.append(engine.logprobs(data)[data.completion_NT[:, 1:]].double())
        step(engine, data)
        gradient.append(torch.cat([w.grad.flatten().cpu() for _, w in engine.weights() if w.grad is not None]))
        del engine
    rms, spread = (logp[0] - logp[1]).square().mean().sqrt().item(), logp[0].std().item()
    cosine = cosine_of(*gradient)
    words = f"log-probabilities differ by {rms:.2g} nats of a spread of {spread:.2g}, gradients by cosine {cosine:.5f}"
    yield "bf16", require(0 < rms <= SPREAD * spread and cosine > 0.99, words)


def cosine_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """Give the cosine between two long vectors, in fp64 a part at a time."""
    sums = torch.zeros(3, dtype=torch.float64)
    for a, b in zip(one.split(1 << 24), other.split(1 << 24), strict=True):
        a, b = a.double(), b.double()
        sums += torch.stack([a @ b, a @ a, b @ b])
    return (sums[0] / (sums[1] * sums[2]).sqrt()).item()


def deterministic(device: torch.device) -> Iterator[tuple[str, str]]:
    """Make the same updates twice, and draw the same tokens twice, with torch's deterministic operations."""
    from gatepo.rollout.transformers import sample

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    shape, found = shape_of(device), []
    data = gpu.batch(shape, PROMPT, COMPLETION, device)
    for _ in range(2):
        engine = trainer(shape, torch.bfloat16, device)
        norms = [step(engine, data).grad_norm for _ in range(2)]
        generator = torch.Generator().manual_seed(1)
        logits_NV = torch.randn(64, gpu.SHAPES[shape]["vocabulary"], generator=generator).to(device)
        uniform_N = torch.rand(64, generator=generator, dtype=torch.float64).to(device)
        token_N, _ = sample(logits_NV, uniform_N, 1.0)
        found.append((norms, token_N.tolist(), [w.detach().cpu().clone() for _, w in engine.weights()]))
        del engine
    (norms, tokens, weights), (norms_2, tokens_2, weights_2) = found
    same = norms == norms_2 and tokens == tokens_2 and all(map(torch.equal, weights, weights_2))
    yield "deterministic", require(same, f"two updates and 64 samples {'are' if same else 'are not'} equal to the bit")


def fused(device: torch.device) -> Iterator[tuple[str, str]]:
    """Step the optimizer in one kernel, and plainly."""
    found = []
    for one_kernel in (True, False):
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(1 << 20, generator=generator).to(device))
        optimizer = AdamW(lr=1e-3, weight_decay=0.01).make([weight], fused=one_kernel)
        for _ in range(3):
            weight.grad = torch.randn(1 << 20, generator=generator).to(device)
            optimizer.step()
        found.append(weight.detach().double())
    largest = ((found[0] - found[1]).abs() / found[1].abs().clamp(min=1e-3)).max().item()
    yield "fused", require(largest < 1e-4, f"three steps of AdamW differ by {largest:.2g} of a weight at most")


def head(device: torch.device) -> Iterator[tuple[str, str]]:
    """Multiply in three bf16 parts of each fp32 matrix."""
    from gatepo.products import parts_pay, plain_product, product_of_parts

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, generator=generator).view(-1, 256).to(device) for n in (64 * 256, 256 * 256))
    exact = left.double() @ right.double()
    ours, plain = ((p(left, right) - exact).abs().max().item() for p in (product_of_parts, plain_product))
    chosen = "parts" if parts_pay(device) else "fp32"
    words = f"errors {ours:.2g} in bf16 parts and {plain:.2g} in fp32; the head takes {chosen} here"
    yield "head", require(chosen == "fp32" or ours <= 2 * plain, words)


def run(device: torch.device) -> Iterator[tuple[str, str]]:
    """Train the embedded model twice by the command line, and compare every metric."""
    found = [trained(device) for _ in range(2)]
    where = [i + 1 for i, (one, other) in enumerate(zip(*found, strict=True)) if one != other]
    words = "two runs of four updates are equal to the bit"
    yield "run", require(not where, words if not where else f"two runs differ from update {where[0]} on")


def lora(device: torch.device) -> Iterator[tuple[str, str]]:
    """Train an adapter of the embedded model."""
    if "adapter" not in {field.name for field in fields(Model)}:
        raise Skipped("this version has no model.adapter=lora")
    if find_spec("peft") is None:
        raise Skipped("peft is not installed")
    lines = trained(device, "model.adapter=lora")
    yield "lora", f"four updates; reward {lines[0]['reward']:.2f} and {lines[-1]['reward']:.2f}"


def trained(device: torch.device, *words: str) -> list[dict[str, float]]:
    """Give the metrics of a small run on this device, without those of time.

    Raises:
      Failed: it did not end well.
    """
    small = ("updates=4", "batch.prompts=4", "evaluate.limit=2", "threads=1", *words)
    hidden = {} if device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gatepo.train", *small, f"hydra.run.dir={folder}/run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | hidden)
        if done.returncode != 0:
            raise Failed(last_line(done.stderr))
        lines = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if "time" not in k} for line in lines]


def zero3(device: torch.device) -> Iterator[tuple[str, str]]:
    """Update with DeepSpeed ZeRO-3 on one device, and with plain PyTorch."""
    if find_spec("deepspeed") is None:
        raise Skipped("deepspeed is not installed")
    from gatepo.engine.deepspeed import DeepSpeed

    data = gpu.batch("tiny", PROMPT, COMPLETION, device)
    found = []
    for option, start in ((Torch(), device), (DeepSpeed(zero_stage=3, persistence_threshold=0), torch.device("cpu"))):
        engine = trainer("tiny", torch.float32, start, option)
        steps = [step(engine, data) for _ in range(2)]
        found.append([*(s.loss for s in steps), *(s.grad_norm for s in steps)])
    off = max(abs(a - b) / max(abs(a), 1e-3) for a, b in zip(*found, strict=True))
    yield "zero3", require(off < 1e-3, f"losses and gradient norms of two updates differ by {off:.1g} of them at most")


def vllm(device: torch.device) -> Iterator[tuple[str, str]]:
    """Sample with vLLM, let it sleep and wake; then send it weights, and leave some of them out."""
    if find_spec("vllm") is None:
        raise Skipped("vllm is not installed")
    from gatepo.model import load_model, load_tokenizer
    from gatepo.rollout.base import RolloutParts
    from gatepo.rollout.vllm import Vllm

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)  # as in a run
    model = load_model("tiny", device, None)
    option = Vllm(max_sequences=64)
    sampler = option.make(
        RolloutParts(
            model_path="tiny",
            module=None,
            tokenizer=load_tokenizer("tiny"),
            dtype=torch.float32,
            context=192,
            seed=0,
            world=World(),
        )
    )
    yield "vllm", slept(sampler, device, option.memory)
    yield "sync", attested(model, sampler, device)


def slept(sampler: Any, device: torch.device, share: float) -> str:
    """Say what sleeping gave back, and whether the samples after it are those before."""
    from gatepo.types import Prompt, Sampling

    ask = Prompt(index=0, source="check", question="?", answer="1", token_ids=tuple(range(7, 19)))
    sampling = Sampling(temperature=1.0, max_completion_length=32, num_generations=16)

    def drawn() -> list[tuple[int, ...]]:
        (group,) = sampler.generate([ask], sampling, 0)
        return [completion.token_ids for completion in group.completions]

    before, awake = drawn(), free(device)
    sampler.sleep()
    asleep = free(device)
    sampler.wake()
    require(drawn() == before, "the samples after waking are not those before")
    if device.type != "cuda":
        return "16 completions are the same before and after; on a CPU it does not sleep"
    taken, back = share * torch.cuda.get_device_properties(device).total_memory / 2**30, asleep - awake
    return require(back > taken / 2, f"sleeping gave back {back:.1f} of {taken:.1f} GiB; 16 completions are the same")


def free(device: torch.device) -> float:
    """Give the memory of the device that nobody has, GiB; 0 on a CPU."""
    return torch.cuda.mem_get_info(device)[0] / 2**30 if device.type == "cuda" else 0.0


def attested(model: Any, sampler: Any, device: torch.device) -> str:
    """Send weights that moved, and see them attested; then leave a layer out, and see that noticed."""
    from gatepo.rollout.sync import WeightSync

    class Trainer:
        """Stands in for an engine: its weights, and their log-probabilities."""

        def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
            yield from model.named_parameters()

        def logprobs(self, batch: TokenBatch, temperature: float | None = None) -> torch.Tensor:
            with torch.no_grad():
                logp_NTV = model(input_ids=batch.ids_NT).logits.float().log_softmax(-1)
            return logp_NTV[:, :-1].gather(2, batch.ids_NT[:, 1:, None]).squeeze(2)

    vocabulary = model.config.get_text_config().vocab_size
    sync = WeightSync(Trainer(), sampler, vocabulary, 1e-3, torch.float32, device, World())  # type: ignore[arg-type]
    moved(model)
    sync(1)
    difference = sync.difference().rms
    moved(model)
    load, left_out = sampler.load_weights, "model.layers.1.mlp.down_proj.weight"
    sampler.load_weights = lambda weights, version: load(((n, w) for n, w in weights if n != left_out), version)
    try:
        sync(2)
    except TrainingStopped as error:
        require("down_proj" in str(error), f"a stale layer was noticed, as {error}")
        return f"log-probabilities differ by {difference:.1g} nats; a layer that was left out was named"
    raise Failed("a layer that was left out went unnoticed")


def moved(model: Any) -> None:
    """Change every weight a little."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + 1e-3)


def bench(device: torch.device) -> Iterator[tuple[str, str]]:
    """Measure the first row of ``make bench-gpu``, one round of it."""
    shape = shape_of(device)
    lengths = ("512", "512") if device.type == "cuda" else ("8", "8")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "bench.json")
        command = [sys.executable, "-m", "benchmarks.gpu", "--shape", shape, "--device", device.type, "--rounds", "1"]
        command += ["--lengths", *lengths, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not out.exists():
            raise Failed(last_line(done.stdout + done.stderr))
        rows = json.loads(out.read_text(encoding="utf-8"))["gpu"]
    key, row = next((key, row) for key, row in rows.items() if key != "measured")
    yield "bench", f"{row['what']}: {row['ours']:.3g} {row['unit']}, the other {row['other']:.3g} ({key})"


CHECKS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "bf16": (bf16, ("bf16",)),
    "deterministic": (deterministic, ("deterministic",)),
    "fused": (fused, ("fused",)),
    "head": (head, ("head",)),
    "zero3": (zero3, ("zero3",)),
    "vllm": (vllm, ("vllm", "sync")),
    "run": (run, ("run",)),
    "lora": (lora, ("lora",)),
    "bench": (bench, ("bench",)),
}
"""Each with the names of the lines that it gives."""


def last_line(text: str) -> str:
    """Give the last line that says anything."""
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
