"""From the config to the page of a plan."""

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command import gatepo
from composed import EVALUATIONS, files, typed
from conftest import REPO
from planned_runs import AUTOCAST, BF16, FP32, planned
from transformers import AutoModelForCausalLM

from gatepo import logprobs
from gatepo.plan import cost, resolve
from gatepo.plan.cost import GIB
from gatepo.plan.report import report
from gatepo.plan.shape import model_shape
from gatepo.plan.work import Layout


def test_engines_keep_the_model_as_they_say() -> None:
    def layout(*overrides: str) -> Layout:
        settings = typed(*overrides)
        return resolve.layout(settings, model_shape("tiny"), resolve.workload(settings))

    assert layout() == FP32
    assert layout("model.dtype=bfloat16") == AUTOCAST
    sharded = layout("model.dtype=bfloat16", "engine=deepspeed", "engine.zero_stage=1", "rollout=vllm")
    vllm = {"sampler": "own", "sampler_logit_bytes": 16, "sampler_sleeps": True}
    assert sharded == replace(BF16, zero_stage=1, accumulated=4, flattened=True, **vllm)
    stage2 = replace(FP32, zero_stage=2, master=4, flattened=True, gradients_kept=False)
    assert layout("engine=deepspeed", "engine.zero_stage=2") == stage2
    assert layout("engine=deepspeed", "engine.zero_stage=3").master == 0
    assert layout("engine=deepspeed", "engine.zero_stage=3").sampler == "copy"
    assert layout("engine=deepspeed", "model.dtype=bfloat16").sampler == "copy"
    assert layout("kl=fixed").reference == 4
    assert layout("kl=fixed", "model.dtype=bfloat16").reference == 2
    assert layout("kl=fixed", "kl.reference=sampling").reference == 0
    more = ("engine.offload_optimizer=true", "model.activation_checkpointing=true", "devices=2")
    assert layout("engine=deepspeed", *more).offload_optimizer
    assert layout("engine=deepspeed", *more).checkpointing
    team = ("devices=2", "rollout=vllm", "rollout.tensor_parallel_size=2", "rollout.max_sequences=64")
    assert layout(*team).sampler_shards == 2
    assert resolve.workload(typed(*team)).max_sequences == 32


def test_large_vocabularies_are_sliced_as_the_trainer_slices_them() -> None:
    settings = typed("+experiment=paper/erf")
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    tokens = work.micro_batch * 512
    assert resolve.layout(settings, shape, work).slice_width == logprobs.slice_width(tokens, 3584) < 152_064


def test_epochs_are_prompts_over_rows(tmp_path: Path) -> None:
    # 40,000 prompts, half and half: 20,000 / 7,473 and 20,000 / 103,110
    found = resolve.epochs(typed("+experiment=paper/erf"), 40_000)
    assert found == {"gsm8k": pytest.approx(2.67630, abs=1e-5), "deepmath": pytest.approx(0.19397, abs=1e-5)}
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n' * 3)
    overrides = ["data=gsm8k_deepmath", f"data.sources.gsm8k.path={tmp_path}/mine.jsonl", "data.sources.gsm8k.weight=3"]
    settings = typed(*overrides, "data.sources.deepmath.hub=some/other")
    assert resolve.epochs(settings, 100) == {"gsm8k": 100 * 3 / 4 / 3, "deepmath": None}


@pytest.mark.parametrize("experiment", [name for name in files("experiments") if name not in EVALUATIONS])
def test_every_experiment_has_a_plan_that_loads_no_weights(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("weights were loaded")

    before = set(sys.modules)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", refuse)
    page = report(typed(f"+experiment={experiment}"))
    assert "mean update, at the least" in page
    assert not {"vllm", "deepspeed"} & (set(sys.modules) - before)


def test_the_page_of_the_papers_run_on_eight_devices() -> None:
    overrides = ("devices=8", "engine=deepspeed", "engine.zero_stage=2", "rollout=vllm", "rollout.memory=0.35")
    page = report(typed("+experiment=paper/erf", *overrides))
    lines = {line.split("  ")[0]: line.split("  ", 1)[-1].split() for line in page.splitlines()}
    assert "7,615,616,512 parameters" in page
    assert lines["completions (groups of 8)"] == ["128", "16"]
    assert lines["gradient accumulation"] == ["16", "micro-batches", "of", "1"]
    assert lines["tokens sampled, at most"] == ["163,840,000"]
    assert lines["weights"] == ["28.4", "14.2", "14.2"]  # 7,615,616,512 x 2 bytes / 2^30; two copies as ZeRO flattens
    assert "sampler: weights, asleep                              14.2" in page
    assert "all 8 ranks                          0         0       113" in page
    parts = cost.memory(*planned(overrides))
    sums = [sum(getattr(part, phase) for part in parts) / GIB for phase in ("starting", "sampling", "learning")]
    totals = [line.split()[1:] for line in page.splitlines() if line.startswith("total")]
    assert totals[0] == [f"{x:.1f}" for x in sums]
    assert lines["of A100-80G (79 GiB)"] == [f"{x / 79.15:.0%}" for x in sums]
    # (43.18 - 3.55 gradients - 14.82 of vLLM) GiB and 0.35 of the device
    whole = "It takes all of the 0.35 that it is given; GiB while sampling are then"
    assert f"{whole} 33.1 does not fit on RTX-4090, 52.5 on A100-80G" in page
    # (14.185 weights + 0.602 cache + 0.036 logits) GiB: 0.63 of 23.64, 0.187 of 79.15, 0.107 of 139
    least = "0.63 on RTX-4090, 0.19 on A100-80G, 0.19 on H100-SXM, 0.11 on H200"
    assert f"vLLM needs 14.8 GiB: rollout.memory of at least {least}" in page


@pytest.mark.parametrize(
    ("document", "before"),
    [("docs/running.md", "+experiment=paper/erf`:"), ("README.md", "before anything is loaded:")],
)
def test_the_excerpts_are_what_the_command_prints(document: str, before: str) -> None:
    text = (REPO / document).read_text()
    excerpt = text[text.index(before) :].split("\n\n")[1]
    page = report(typed("+experiment=paper/erf")).splitlines()
    for line in excerpt.splitlines():
        assert line.removeprefix("    ") in page


def test_the_command_takes_overrides_and_leaves_no_folder(tmp_path: Path) -> None:
    done = gatepo("plan", "updates=6", "batch.num_generations=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "completions (groups of 4)" in done.stdout
    assert "rollout batches (mu = 2)" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["tau.pos=-1"], "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got -1.0"),
        (["gate=tanh"], "gate must be one of arctan, aspo, ce_gppo, cispo, clip, "),
        (["model.path=no/such-model"], "model.path=no/such-model is no folder, and the hub is offline from here"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], part: str) -> None:
    done = gatepo("plan", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_arithmetic_knows_shapes_and_hardware_only() -> None:
    below = {"gatepo.plan.shape", "gatepo.plan.hardware", "gatepo.plan.work"}
    for name, allowed in (("cost", below), ("work", set()), ("hardware", set())):
        imported = set()
        for node in ast.walk(ast.parse((REPO / "gatepo" / "plan" / f"{name}.py").read_text())):
            imported |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            imported |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
        assert {module for module in imported if module.split(".")[0] not in sys.stdlib_module_names} == allowed
