"""make gpu-check: what it does without a GPU, small on a CPU, and when a check goes wrong. No GPU has run it yet."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import REPO
from pages import page

from benchmarks import gpu_check, gpu_checks
from benchmarks.gpu_check import Line, here
from benchmarks.gpu_checks import CHECKS, Failed, Skipped

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A check switches torch's deterministic operations on for its process."""
    yield
    torch.use_deterministic_algorithms(False)


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks.gpu_check``, as it is typed."""
    variables = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"} | environment
    typed = [sys.executable, "-m", "benchmarks.gpu_check", *words]
    return subprocess.run(typed, cwd=REPO, env=variables, capture_output=True, text=True, check=False, timeout=550)


def verdicts(name: str) -> dict[str, str]:
    lines = here(name, CPU)
    assert tuple(line.name for line in lines) == CHECKS[name][1]
    return {line.name: line.verdict + " " + line.words for line in lines}


def test_without_a_gpu_it_says_so_in_one_line_and_ends_with_2(tmp_path: Path) -> None:
    done = command("--out", str(tmp_path / "out.json"), CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, len(done.stdout.splitlines())) == (2, 1)
    assert "no GPU" in done.stdout
    assert not (tmp_path / "out.json").exists()


def test_make_says_so_before_it_installs_anything(tmp_path: Path) -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "gpu-check"], cwd=REPO, env=alone, capture_output=True, text=True, check=False)
    if "Error 2" not in done.stderr:
        pytest.skip("this machine has a GPU")
    assert done.stdout.splitlines() == ["gpu-check: no GPU is here (nvidia-smi lists none)"]
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["bf16", "deterministic", "fused", "head"])
def test_what_makes_sense_on_a_cpu_passes_there(name: str) -> None:
    assert verdicts(name)[name].startswith("passed ")


def test_all_of_it_is_in_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = command("--device", "cpu", "--only", "fused", "head", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["fused", "passed"], ["head", "passed"]]
    found = json.loads(out.read_text())
    assert found["passed"] is True
    assert [check["name"] for check in found["checks"]] == ["fused", "head"]
    assert {"date", "machine", "versions", "seconds"} <= found.keys()


def test_deepspeed_and_vllm_pass_on_a_cpu(tmp_path: Path) -> None:
    """In processes of their own; the whole of vLLM, its sync, and ZeRO-3."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    pytest.importorskip("vllm", reason="vllm is not installed")
    done = command("--device", "cpu", "--only", "zero3", "vllm", "--seconds", "500", "--out", str(tmp_path / "out"))
    found = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[:3]}
    assert found == {"zero3": "passed", "vllm": "passed", "sync": "passed"}, done.stdout


def test_bf16_that_is_far_off_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "SPREAD", 1e-6)
    assert verdicts("bf16")["bf16"].startswith("failed log-probabilities differ by")


def test_an_optimizer_that_steps_otherwise_in_one_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    make = gpu_checks.AdamW.make

    def off(self: object, parameters: list, *, fused: bool) -> torch.optim.Optimizer:
        made = make(self, parameters, fused=fused)
        made.param_groups[0]["lr"] *= 1.0 + 0.5 * fused
        return made

    monkeypatch.setattr(gpu_checks.AdamW, "make", off)
    assert verdicts("fused")["fused"].startswith("failed three steps of AdamW differ by")


def test_what_is_not_equal_to_the_bit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    step, count = gpu_checks.step, iter(range(9))

    def drifting(engine: object, data: object) -> object:
        next(iter(engine.weights()))[1].data.view(-1)[0] += 1e-6 * next(count)
        return step(engine, data)

    monkeypatch.setattr(gpu_checks, "step", drifting)
    assert verdicts("deterministic")["deterministic"].startswith("failed two updates and 64 samples are not equal")


def test_a_check_that_skips_fails_or_breaks_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(error: Exception):
        def check(device: torch.device) -> Iterator[tuple[str, str]]:
            yield "one", "seen"
            raise error

        return check

    for error, verdict, words in (
        (Skipped("not here"), "skipped", "not here"),
        (Failed("off by 3"), "failed", "off by 3"),
        (RuntimeError("CUDA error:\n an illegal access"), "failed", "RuntimeError: CUDA error: an illegal access"),
    ):
        monkeypatch.setitem(CHECKS, "mine", (of(error), ("one", "two")))
        lines = here("mine", CPU)
        assert [(line.name, line.verdict, line.words) for line in lines] == [
            ("one", "passed", "seen"),
            ("two", verdict, words),
        ]


def test_a_check_whose_process_dies_or_hangs_is_a_failed_line() -> None:
    assert gpu_check.apart("fused", "cpu", 0.05)[0].words.startswith("no answer within")
    assert gpu_check.apart("fused", "no-device", 60)[0].words.startswith("its process ended with 2: ")
    assert gpu_check.apart("vllm", "cpu", 0) == [
        Line("vllm", "failed", "no time was left"),
        Line("sync", "failed", "no time was left"),
    ]


def test_the_page_has_each_check() -> None:
    table = page("cluster").split("## Is this node all right?")[1]
    named = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert set(named) - {"check", "---"} == {name for _, names in CHECKS.values() for name in names}
