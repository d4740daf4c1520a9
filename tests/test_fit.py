"""A configuration that cannot fit the machine is refused before anything is loaded; what may fit is not."""

import sys
from pathlib import Path

import pytest
from command import gatepo
from composed import typed

from gatepo.errors import UserError
from gatepo.plan.fit import Machine, look, ranks_here, require_fit, this_machine
from gatepo.plan.shape import KNOWN, model_shape

LAPTOP = Machine(memory=16.0)
A100 = Machine(memory=1000.0, gpus=8, gpu_memory=79.15)
PAPER = ["+experiment=paper/erf"]
QWEN = "model.path=Qwen/Qwen2.5-{}-Instruct"


@pytest.mark.parametrize(
    ("words", "machine", "refused"),
    [
        (PAPER, LAPTOP, "must fit the memory of this machine, 16 GiB, got 365 GiB or more (8 processes"),
        (PAPER, A100, None),
        (PAPER, Machine(memory=1000.0, gpus=1), "devices must be at most 1, the GPUs here, got 8"),
        (PAPER, Machine(memory=1000.0, gpus=8, gpu_memory=24.0), "must fit the memory of a GPU here, 24"),
        ([*PAPER, "engine.offload_optimizer=true"], Machine(memory=50.0, gpus=8), "this machine, 50 GiB"),
        ([QWEN.format("0.5B")], LAPTOP, None),
        ([QWEN.format("7B")], LAPTOP, "choose a smaller model.path"),
        ([QWEN.format("0.5B"), "batch.micro=null"], LAPTOP, "lower batch.micro"),
        ([QWEN.format("1.5B"), "model.dtype=float32"], Machine(memory=64.0, gpus=1, gpu_memory=39.5), None),
        ([], LAPTOP, None),
        (["devices=8"], LAPTOP, None),
        (["devices=8"], Machine(memory=0.1), "must fit the memory of this machine, 0.1 GiB"),
    ],
)
def test_what_cannot_fit_is_refused_with_figures_and_a_remedy(
    words: list[str], machine: Machine, refused: str | None
) -> None:
    settings = typed("data=gsm8k", *words)
    if refused is None:
        require_fit(settings, machine, settings.devices)
        return
    with pytest.raises(UserError) as caught:
        require_fit(settings, machine, settings.devices)
    line = str(caught.value)
    assert refused in line
    assert "force=true" in line
    assert "\n" not in line
    forced = typed("data=gsm8k", *words, "force=true")
    assert any(refused in said for said in require_fit(forced, machine, forced.devices))


def test_what_does_not_fit_with_the_longest_alone_is_said_and_not_refused() -> None:
    settings = typed("data=gsm8k", QWEN.format("0.5B"), "batch.micro=8")
    refused, said = look(settings, LAPTOP, 1)
    assert refused == []
    assert "got up to" in said[0]
    assert "lower batch.micro" in said[0]


def test_a_sampler_that_takes_more_of_a_gpu_than_the_trainer_leaves_is_refused() -> None:
    """vLLM takes all of its share, whatever it needs: the second time that it wakes, moments lie beside it."""
    words = ("data=gsm8k", QWEN.format("1.5B"), "rollout=vllm")
    machine = Machine(memory=500.0, gpus=1, gpu_memory=39.5)
    refused, _ = look(typed(*words, "rollout.memory=0.9"), machine, 1)
    assert refused[0].startswith("rollout.memory must be at most 0.") and "got 0.9" in refused[0]
    most = float(refused[0].split("at most ")[1].split(",")[0])
    assert look(typed(*words, f"rollout.memory={most}"), machine, 1)[0] == []
    assert look(typed(*words, f"rollout.memory={most + 0.02}"), machine, 1)[0] != []
    assert look(typed(*words[:2], "rollout=transformers"), machine, 1)[0] == []


def test_what_really_ran_here_is_not_refused() -> None:
    """Weights, gradients and moments of Qwen2.5-0.5B in fp32 are 7.4 GiB: less is refused, a third more is not."""
    settings = typed("data=gsm8k", QWEN.format("0.5B"), "model.dtype=float32", "sampling.max_completion_length=64")
    states = 16 * KNOWN["Qwen/Qwen2.5-0.5B-Instruct"].parameters / 2**30
    assert look(settings, Machine(memory=1.3 * states), 1)[0] == []
    assert look(settings, Machine(memory=0.9 * states), 1)[0] != []


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, 8),
        ({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, 8),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 4),
        ({"RANK": "0"}, 1),
    ],
)
def test_a_host_holds_its_own_ranks_alone(environment: dict[str, str], ranks: int) -> None:
    assert ranks_here(8, environment) == ranks


def test_this_machine_has_memory() -> None:
    found = this_machine(look_at_gpus=True)
    assert 0.5 < found.memory < 1e5
    assert (found.gpus == 0) == (found.gpu_memory is None)


def test_the_learning_rate_of_another_size_is_said() -> None:
    settings = typed(QWEN.format("0.5B"), "optimizer.lr=7e-4")
    assert any("optimizer.lr=0.0007 is far above" in line for line in look(settings, A100, 1)[1])


def test_the_shape_of_the_embedded_model_is_read_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert model_shape("tiny").layers == 4


def test_the_command_refuses_before_it_starts_a_process(tmp_path: Path) -> None:
    done = gatepo("train", "+experiment=paper/erf", f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("gatepo: model.path=Qwen/Qwen2.5-7B-Instruct must fit the memory of this machine")
