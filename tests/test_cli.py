"""What a user sees at the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import gatepo
from conftest import REPO


def test_cfg_job_prints_the_composed_config() -> None:
    done = gatepo("train", "gate=arctan", "tau.pos=7", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "name: arctan" in done.stdout
    assert "pos: 7" in done.stdout


def test_help_lists_groups_and_their_options() -> None:
    done = gatepo("train", "--help")
    assert done.returncode == 0, done.stderr
    assert "sigmoid, erf, arctan, softsign, clip, none, " in done.stdout
    assert "math_7b_lora, paper/arctan, paper/erf, paper/figure2" in done.stdout
    assert "gates, iterations, matched, temperature" in done.stdout
    assert "batch.iterations=2 " in done.stdout
    assert "mu, passes over one rollout batch. It must be >= 1." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["gate=tanh"], ["gate must be one of arctan, aspo, ce_gppo", "got gate=tanh; choose one of these"]),
        (["gaet=erf"], ["gaet must be a setting", "got gaet=erf; did you mean gate?"]),
        (["gate=custom", "gate.slope=1/(1+y**2)"], ["gate.slope may name x, tau, pi, E only, got the name y"]),
        (["gate._target_=gone.MyGate"], ["gate._target_ must be importable, got gone.MyGate"]),
        (["gate._target_="], ["gate._target_ must be module.Class, got ; e.g. my.module.MyClass"]),
        (["data._target_=a.B"], ["data._target_ must be a setting", "it has data.path, "]),
        (["gate=clip", "gate.foo=1"], ["got gate.foo=1; it has gate.eps_low, "]),
        (["optimizer.rl=1"], ["did you mean optimizer.lr?"]),
        (["gate=5"], ["gate must be the name of an option, got gate=5; type a name (--help lists them)"]),
        (["tau.pos=x"], ["tau.pos must be a number, got x; type tau=paper for the paper's pair"]),
        (["kl=fixed", "kl.coefficient=x"], ["kl.coefficient must be a number, got x; kl=none has no penalty"]),
        (["data.sources.words.weight=x"], ["data.sources.words.weight must be a number, got x; 1 is an equal share"]),
        (["batch=3"], ["batch must be set part by part, got 3; it has batch.prompts, batch.num_generations, "]),
        (["tau=7"], ["tau must be the name of an option, got tau=7; type tau.pos=7 tau.neg=7, or a name"]),
        (
            ["tau=t7"],
            ["tau must be one of constant, matched, paper, schedule, t1, t13, t2, t5, target_eur, got tau=t7"],
        ),
        (
            ["data=none"],
            ["data must be one of aime24, aime25, csv, deepmath, gsm8k, gsm8k_deepmath", "got data=none"],
        ),
        (["gate=erf,clip"], ["gate must have one value, got erf,clip; add -m for a run with each"]),
        (["experiment=smoke"], ["experiment must be added with a plus, got experiment=smoke; type +experiment=smoke"]),
        (["beta=0.1"], ["got beta=0.1; type kl=fixed kl.coefficient=0.1 (docs/from-trl.md)"]),
        (["kl=0.1"], ["got kl=0.1; type kl=fixed kl.coefficient=0.1"]),
        (["model=Qwen/Qwen2.5-0.5B"], ["type model.path=Qwen/Qwen2.5-0.5B"]),
        (["reward=mine.score"], ["type reward._target_=mine.score"]),
        (["aggregation=dr_grpo"], ["type +method=dr_grpo"]),
        (["--gate=erf"], ["must stand without dashes, got --gate=erf; type gate=erf"]),
        (["gates=erf"], ["gates must be a setting of what is chosen, got gates=erf; did you mean gate?"]),
        (["+sweep=temperature"], ["+sweep must stand with -m", "add -m"]),
        (["hydra.run.dir=/proc/none"], ["cannot write /proc/none", "hydra.run.dir=FOLDER"]),
        (["tau.position=3"], ["got tau.position=3; did you mean tau.pos?"]),
        (["gate=erf", "gate.eps_low=0.1"], ["got gate.eps_low=0.1; gate=clip, dual_clip, ce_gppo, aspo have it"]),
        (["advantage=rloo", "advantage.ddof=0"], ["got advantage.ddof=0; advantage=group_zscore, reinforce_pp"]),
        (["+lr=1"], ["lr must be a setting, got 1 for one that does not exist here"]),
        (["+tau.target=0.9"], ["tau.target must be a setting, got 0.9"]),
        (["updates=many"], ["updates must be a whole number, got many; 200 is the default"]),
        (["+experiment=paper/tanh"], ["got experiment=paper/tanh; did you mean +experiment=paper/arctan?"]),
        (["tau.pos=-1"], ["tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got -1.0; type tau=paper"]),
        (
            ["data.path=gone"],
            ["data.path must be a folder for 2 sources, got gone", "data.sources.words.path=FILE.jsonl"],
        ),
        (["data=gsm8k", "data.path=gone.jsonl"], ["cannot read gone.jsonl", "check its path"]),
        (["data=gsm8k"], ["cannot load openai/gsm8k from the hub: the hub is offline", "give data.path=FILE"]),
        (["model.path=conf"], ["model.path=conf has no model", "give a folder with config.json"]),
        (["model.path=no/such-model"], ["model.path=no/such-model is no folder, and the hub is offline from here"]),
        (["sampling.max_prompt_length=2000"], ["at most the model's context of 2048 tokens, got 2064; lower one"]),
        (["hydra.run.dir=LICENSE/run"], ["cannot write", "hydra.run.dir=FOLDER"]),
    ],
)
def test_bad_input_gets_one_line_and_a_code(tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    if not any(a.startswith("hydra.run.dir") for a in arguments):
        arguments = [*arguments, f"hydra.run.dir={tmp_path / 'run'}"]
    done = gatepo("train", *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("gatepo: ")
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in last
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_importing_gatepo_loads_neither_vllm_nor_deepspeed_nor_the_slow_rest() -> None:
    code = (
        "import sys, importlib, pkgutil, gatepo\n"
        "for m in pkgutil.walk_packages(gatepo.__path__, 'gatepo.'):\n"
        # judge is what the workers of rewards/sandbox.py import, in processes of their own
        "    if not m.name.endswith(('__main__', 'rewards.judge', 'integrations.trl', 'integrations.verl')):\n"
        "        importlib.import_module(m.name)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "torch" in loaded  # the walk did import the heavy rooms
    optional = {
        "vllm",
        "deepspeed",
        "peft",
        "wandb",
        "tensorboard",
        "trackio",
        "math_verify",
        "datasets",
        "trl",
        "verl",
    }
    assert not loaded & optional


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("objective", {"gatepo.objective", "gatepo.errors", "gatepo.settings"}),
        ("products.py", set()),
        ("logprobs.py", {"gatepo.memory", "gatepo.products"}),
        ("types.py", {"gatepo.objective"}),
        ("settings.py", {"gatepo.errors"}),
        ("formulas", {"gatepo.formulas", "gatepo.objective", "gatepo.errors", "gatepo.settings"}),
        ("targets.py", {"gatepo.errors", "gatepo.settings"}),
        (
            "config.py",
            {
                *("gatepo.errors", "gatepo.rules", "gatepo.schema", "gatepo.settings", "gatepo.targets"),
                *("gatepo.launch.settings", "gatepo.run_folder"),
            },
        ),
        (
            "loop.py",
            {
                *("gatepo.engine.base", "gatepo.rollout.base", "gatepo.rewards.base", "gatepo.objective"),
                *("gatepo.metrics", "gatepo.state", "gatepo.stopwatch", "gatepo.types", "gatepo.world"),
                *("gatepo.controllers", "gatepo.errors"),
            },
        ),
        *(
            (f"rewards/{room}.py", {f"gatepo.rewards.{name}" for name in known.split()})
            for room, known in (
                *(("tags", ""), ("units", ""), ("trees", ""), ("tokens", "units"), ("reader", "tokens")),
                *(("shapes", "trees"), ("numbers", "trees"), ("building", "tokens trees")),
                ("expressions", "reader tokens trees units"),
                ("commands", "expressions reader tokens trees"),
                ("quantities", "commands reader trees units"),
                ("grammar", "expressions quantities reader tokens trees units"),
                ("equality", "grammar numbers shapes tokens trees units"),
                ("extraction", "grammar tags tokens units"),
                ("judge", "building equality numbers trees"),
            )
        ),
        ("rewards/sandbox.py", {"gatepo.rewards.judge"}),
        ("rewards/pool.py", {"gatepo.rewards.sandbox"}),
        (
            "rewards/verifier.py",
            {"gatepo.rewards.equality", "gatepo.rewards.tokens", "gatepo.rewards.pool", "gatepo.rewards.sandbox"},
        ),
        (
            "tracking",
            {
                "gatepo.tracking",
                "gatepo.measures",
                "gatepo.settings",
                "gatepo.json_lines",
                "gatepo.durable",
                "gatepo.errors",
            },
        ),
        (
            "report",
            {
                *(
                    "gatepo.run_folder",
                    "gatepo.report",
                    "gatepo.errors",
                    "gatepo.cli",
                    "gatepo.json_lines",
                    "gatepo.text_table",
                    "gatepo.measures",
                    "gatepo.signals",
                    "gatepo.durable",
                    "gatepo.lazy_torch",
                    "gatepo.objective",
                )
            },
        ),
        ("study/intervals.py", set()),
        ("study/curve.py", set()),
        ("study/outcomes.py", {"gatepo.errors", "gatepo.report.runs"}),
        ("study/claims.py", {"gatepo.errors", "gatepo.study.outcomes"}),
        ("study/evidence.py", {"gatepo.report.runs", "gatepo.study"}),
        ("study/judge.py", {"gatepo.report", "gatepo.study"}),
        ("numbers.py", set()),
        ("integrations", {"gatepo.integrations.gates_and_taus", "gatepo.objective", "gatepo.errors"}),
    ],
)
def test_who_may_know_whom(room: str, allowed: set[str]) -> None:
    import ast

    root = REPO / "gatepo" / room
    for file in [root] if root.is_file() else sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] == "gatepo":
                    assert any(name == a or name.startswith(a + ".") for a in allowed), f"{file.name} imports {name}"


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("vllm", "rollout/vllm.py"),
        ("deepspeed", "engine/deepspeed.py"),
        ("peft", "engine/adapter.py"),
        ("trl", "integrations/trl.py"),
        ("verl", "integrations/verl.py"),
        ("trackio", "tracking/trackio.py"),
        ("wandb_workspaces", "tracking/workspace.py"),
    ],
)
def test_what_not_everyone_installs_is_imported_in_one_file(package: str, file: str) -> None:
    import ast

    found = set()
    for path in (REPO / "gatepo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == package for name in names):
                found.add(path.relative_to(REPO / "gatepo").as_posix())
    assert found == {file}


def test_out_of_memory_names_the_part_and_what_makes_it_smaller() -> None:
    """With the real error of torch's allocator."""
    import torch

    from gatepo import cli
    from gatepo.stopwatch import Stopwatch

    for part, remedy in (("train", "lower batch.micro"), ("rollout", "lower rollout.max_sequences"), (None, "set up")):
        with pytest.raises(RuntimeError) as caught:
            if part is None:
                torch.empty(1 << 56)
            else:
                with Stopwatch().part(part):
                    torch.empty(1 << 56)
        line = cli.one_line(caught.value)
        assert line is not None
        assert remedy in line
        assert "allocate" in line
        assert "\n" not in line
    assert cli.one_line(RuntimeError("something else")) is None


def test_the_package_lists_its_commands_without_importing_what_they_need() -> None:
    code = "import runpy, sys; runpy.run_module('gatepo', run_name='__main__'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    *lines, torch_came = done.stdout.strip().splitlines()
    assert torch_came == "False"
    for command in ("train", "evaluate", "probe", "gates", "plan", "report", "study", "dashboard", "replay", "verify"):
        (line,) = [line for line in lines if line.startswith(f"python -m gatepo.{command} ")]
        assert len(line.split(maxsplit=3)[3]) > 20
        assert (REPO / "gatepo" / f"{command}.py").is_file() or (REPO / "gatepo" / command / "__main__.py").is_file()


@pytest.mark.parametrize("command", ["train", "evaluate", "probe", "gates", "plan"])
@pytest.mark.parametrize(
    ("words", "code"), [(["gaet=erf"], 2), (["tau=5"], 2), (["updates=abc"], 2), (["--help"], 0)], ids=str
)
def test_wrong_words_and_help_do_not_wait_for_torch(command: str, words: list[str], code: int) -> None:
    """Its import takes 1 to 3 s. In a process of its own: those of ``command.py`` have imported torch already."""
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
        "finally: print('torch came:', 'torch._C' in sys.modules)"
    )
    arguments = [sys.executable, "-c", program, f"gatepo.{command}", *words]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == code, done.stderr
    assert (done.stderr.count("\n"), done.stdout.splitlines()[-1]) == (int(code > 0), "torch came: False")


USES = (
    *("torch.ones(1)", "from torch import Tensor", "from torch.nn import functional", "import torch.nn.functional"),
    *("import torch.distributed.elastic.multiprocessing.errors", "import torch.utils.benchmark"),
)


@pytest.mark.parametrize("use", USES)
def test_torch_comes_when_it_is_used(use: str) -> None:
    """It is the same module that an import gives, and each part of it is there once."""
    program = (
        "import sys; from gatepo import lazy_torch; lazy_torch.import_on_use(); import torch\n"
        "assert 'torch._C' not in sys.modules\n"
        f"{use}\n"
        "assert torch.ones(2).sum() == 2 and torch is sys.modules['torch'] and type(torch) is type(sys)\n"
        "import torch.nn.functional as F; assert F is torch.nn.functional and F.__spec__.loader.name == F.__name__\n"
        "assert torch.nn.Linear(1, 1)(torch.ones(1)).shape == (1,)\n"
        "lazy_torch.import_on_use(); assert sys.modules['torch'] is torch\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPO, check=True)


@pytest.mark.parametrize("words", ["gatepo.train --help", "gatepo.gates", "gatepo.train help=gate"])
def test_a_reader_that_left_is_no_error(words: str) -> None:
    """As behind ``| head``: the shell's own code for it, and no traceback."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m {words} | true; exit ${{PIPESTATUS[0]}}"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_model_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    """Its settings are asked while OmegaConf resolves them, whose error stands around ours."""
    done = gatepo("train", "model.path=nobody/has-this", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_settings_may_stand_before_the_word_that_makes_a_grid(tmp_path: Path) -> None:
    done = gatepo("train", "tau.pos=-1", "-m", "gate=erf,clip", "jobs=2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2 and "2 of 2 jobs failed, 2 as said above" in done.stderr, done.stderr


def test_what_a_run_imports_is_not_looked_through_for_garbage_until_it_ends() -> None:
    """At the end it is given back: libraries complain of what stays frozen."""
    program = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "import gatepo.launch.rank\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPO, check=False)
    assert (done.stdout, done.stderr) == ("True True\n0\n", ""), done
