"""The recipes of experiments/: each says what it takes, and runs on its own stack with a small model of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command import gatepo
from composed import typed
from conftest import REPO

from gatepo import checkpoint
from gatepo.plan import resolve
from gatepo.plan.cost import Part, host_memory, least_seconds, memory
from gatepo.plan.hardware import HARDWARE
from gatepo.plan.report import figure, totals
from gatepo.plan.shape import model_shape
from gatepo.schema import TrainConfig

GPU_GIB = {"gsm8k_0.5b": 24, "gsm8k_1.5b": 24, "math_7b_lora": 80}
RECIPES = (*GPU_GIB, "gsm8k_0.5b_cpu")
PAPER = ("grpo", "sapo", "erf", "arctan", "softsign")
GIVEN_BY_CUDA = 0.97  # of a GPU's memory, what torch sees
ROOM = 0.9  # of it, and the rest for what allocator and libraries take


def parts(settings: TrainConfig) -> tuple[list[Part], list[Part]]:
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    layout = resolve.layout(settings, shape, work)
    return memory(shape, work, layout), host_memory(shape, work, layout)


def largest(settings: TrainConfig) -> float:
    """GiB of the device, at the most."""
    return max(totals(parts(settings)[0]))


def hours(settings: TrainConfig, name: str) -> float:
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    [hardware] = [h for h in HARDWARE if h.name == name]
    return work.updates * least_seconds(shape, hardware, work, resolve.layout(settings, shape, work)) / 3600


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_the_plan_says(name: str) -> None:
    settings = typed(f"+experiment={name}")
    device = {None: "CPU-2-cores", 24: "RTX-4090", 80: "A100-80G"}[GPU_GIB.get(name)]
    words = (REPO / "experiments" / f"{name}.yaml").read_text().partition("defaults:")[0]
    said = re.search(
        r"By plan: ([\d.]+) GiB at the most, ([\d.]+) hours on (\S+) at the least", words.replace("\n# ", " ")
    )
    assert said is not None
    assert said.groups() == (figure(largest(settings)), figure(hours(settings, device)), device)


@pytest.mark.parametrize(("name", "gib"), GPU_GIB.items())
def test_a_recipe_fits_its_gpu(name: str, gib: float) -> None:
    """With what vLLM takes while it samples, which is all that it is given."""
    settings = typed(f"+experiment={name}")
    device, _ = parts(settings)
    given = GIVEN_BY_CUDA * gib
    assert largest(settings) < ROOM * given
    own = sum(part.sampling for part in device if part.name.startswith("sampler")) / 2**30
    memory = getattr(settings.rollout, "memory", 0.0)
    assert own < memory * given
    assert totals(device)[1] - own + memory * given < ROOM * given


@pytest.mark.parametrize("name", [*RECIPES, *(f"paper/{name}" for name in PAPER)])
def test_a_recipe_keeps_checkpoints_evaluates_itself_and_is_followed(name: str) -> None:
    settings = typed(f"+experiment={name}")
    assert settings.checkpoint.every > 0
    assert 0 < settings.evaluate.every < settings.updates
    assert settings.data.evaluation
    assert settings.tracker.start.__qualname__.startswith("Wandb")


def rows(folder: Path) -> list[str]:
    """Words that put a few rows in the place of those on the hub; other ones to learn from than to be asked."""
    asked = {"train": "What is {n} + 1?", "test": "Tom had {n} pens and found another. How many has he?"}
    for name, words in asked.items():
        gsm8k = [{"question": words.format(n=n), "answer": f"So it is\n#### {n + 1}"} for n in range(8)]
        math = [
            {"problem": words.format(n=n), "solution": rf"\boxed{{{n + 1}}}", "answer": str(n + 1)} for n in range(8)
        ]
        for kind, found in (("gsm8k", gsm8k), ("math", math)):
            (folder / f"{kind}-{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    return [f"data.sources.SOURCE.path={folder}/NAME-train.jsonl", f"data.evaluation.SET.path={folder}/NAME-test.jsonl"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs(name: str, tmp_path: Path) -> None:
    """Everything of it but the model, the rows and the numbers of a GPU."""
    settings = typed(f"+experiment={name}")
    if settings.rollout.EXITS_HARD:
        pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    if settings.model.adapter.label is not None:
        pytest.importorskip("peft", reason="peft is not installed; make test installs it")
    [source], [evaluation] = settings.data.sources, settings.data.evaluation
    kind = "gsm8k" if "gsm8k" in source else "math"
    words = [w.replace("SOURCE", source).replace("SET", evaluation).replace("NAME", kind) for w in rows(tmp_path)]
    small = ["updates=2", "batch.prompts=2", "batch.num_generations=2", "batch.micro=2", "threads=1"]
    small += ["checkpoint.every=1", "evaluate.every=1", "evaluate.limit=1", "rollout.max_sequences=8"]
    small += ["sampling.max_prompt_length=96", "sampling.max_completion_length=8", "model.path=tiny"]
    run = tmp_path / "run"
    done = gatepo("train", f"+experiment={name}", *small, *words, f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert f"evaluation/{evaluation}" in lines[0]
    assert [path.name for path in checkpoint.found(run)] == ["update-000002"]
    assert list((run / "wandb").glob("offline-run-*"))
    assert (run / "adapter").is_dir() == (settings.model.adapter.label is not None)
