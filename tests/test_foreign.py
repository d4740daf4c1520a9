"""A folder that somebody else made is data: nothing in it runs, no secret goes into it, and no weight is made up."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import gatepo
from composed import evaluation_settings, typed
from conftest import REPO, one_line
from safetensors.torch import load_file, save_file
from test_run import SMALL

from gatepo import checkpoint, claim, config, durable, json_lines, tiny
from gatepo.engine.deepspeed import DeepSpeed
from gatepo.engine.torch import Torch
from gatepo.errors import UserError
from gatepo.evaluate.of_run import with_its_own
from gatepo.evaluate.subject import subject
from gatepo.manifest import Manifest, digest
from gatepo.model import load_model, load_tokenizer
from gatepo.targets import OWN

ENGINES = {
    "torch": (Torch(), ()),
    "zero0": (DeepSpeed(zero_stage=0), ("engine=deepspeed", "engine.zero_stage=0")),
    "zero1": (DeepSpeed(zero_stage=1), ("engine=deepspeed", "engine.zero_stage=1")),
    "zero3": (
        DeepSpeed(zero_stage=3),
        ("engine=deepspeed", "engine.zero_stage=3", "engine.persistence_threshold=0"),
    ),
}
FILES = [
    ("torch", "engine"),
    ("zero0", "engine/state/mp_rank_00_model_states.pt"),
    ("zero1", "engine/state/mp_rank_00_model_states.pt"),
    ("zero1", "engine/state/zero_pp_rank_0_mp_rank_00_optim_states.pt"),
    ("zero3", "engine/state/zero_pp_rank_0_mp_rank_00_model_states.pt"),
    ("zero3", "engine/state/zero_pp_rank_0_mp_rank_00_optim_states.pt"),
]


class Canary:
    """What runs as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of each trainer, made when it is first asked for."""
    root = tmp_path_factory.mktemp("runs")

    def run(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            if name != "torch":
                pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
            small = (*SMALL, "updates=1", "evaluate.limit=1", "checkpoint.every=1", *ENGINES[name][1])
            done = gatepo("train", *small, f"hydra.run.dir={folder}")
            assert done.returncode == 0, done.stderr
        return folder

    return run


@pytest.fixture
def foreign(runs: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of such a run's checkpoint, in a run's folder of its own."""

    def copied(name: str) -> Path:
        shutil.copytree(runs(name), tmp_path / name)
        return checkpoint.found(tmp_path / name)[0]

    return copied


def sign(path: Path) -> None:
    """Write the manifest that fits what lies there, as whoever means harm does."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "checkpoint.json"]
    names = {str(file.relative_to(path)): file for file in files}
    Manifest(
        update=1,
        ranks=1,
        files={name: file.stat().st_size for name, file in names.items()},
        sha256={name: digest(file) for name, file in names.items()},
    ).write(path)


def spoil(file: Path, canary: Path) -> None:
    """Put what runs into a file of pickles, beside all that it holds."""
    torch.save(torch.load(file, weights_only=False) | {"more": Canary(canary)}, file)


def read(name: str, path: Path) -> None:
    ENGINES[name][0].read_weights(load_model("tiny", torch.device("cpu"), None), path / checkpoint.ENGINE)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_no_file_of_a_checkpoint_runs_as_its_weights_are_read(
    foreign: Callable[[str], Path], tmp_path: Path, name: str, file: str
) -> None:
    path = foreign(name)
    read(name, path)  # as it was written it can be read
    spoil(path / file, tmp_path / "canary")
    with pytest.raises(UserError) as refused:
        read(name, path)
    assert "system" in one_line(refused) and f"{path / 'engine'}" in one_line(refused)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(("name", "file"), [FILES[0], *FILES[2:]])
def test_nothing_runs_as_a_foreign_run_goes_on(
    foreign: Callable[[str], Path], tmp_path: Path, name: str, file: str
) -> None:
    path = foreign(name)
    run = path.parent.parent
    (run / "summary.json").unlink()
    spoil(path / file, tmp_path / "canary")
    sign(path)
    done = gatepo("train", f"resume={run}")
    assert not (tmp_path / "canary").exists()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "posix.system" in done.stderr.splitlines()[-1]


def test_nothing_of_a_stored_state_runs(foreign: Callable[[str], Path], tmp_path: Path) -> None:
    path = foreign("torch")
    torch.save({"more": Canary(tmp_path / "canary")}, path / "state-0.pt")
    sign(path)
    done = gatepo("probe", f"run={path.parent.parent}", "gates=[clip,erf]")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not (tmp_path / "canary").exists()


def test_a_foreign_checkpoint_is_refused_by_the_command_in_one_line(
    foreign: Callable[[str], Path], tmp_path: Path
) -> None:
    path = foreign("zero1")
    spoil(path / FILES[3][1], tmp_path / "canary")
    sign(path)
    for module, words in (("evaluate", f"run={path}"), ("probe", f"run={path.parent.parent}")):
        done = gatepo(module, words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "must hold tensors and plain values, got posix.system, which is not run" in done.stderr.splitlines()[-1]
        assert not (tmp_path / "canary").exists()


def without_half(state: dict[str, Any]) -> dict[str, Any]:
    return dict(list(state.items())[: len(state) // 2])


@pytest.mark.parametrize("of", [without_half, lambda state: {}, lambda state: {k: v[:1] for k, v in state.items()}])
def test_a_checkpoint_without_all_weights_is_refused(
    foreign: Callable[[str], Path], of: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    for name in ("torch", "zero0", "zero1", "zero3"):
        path = foreign(name)
        file = path / next(file for engine, file in FILES if engine == name)
        held = torch.load(file, weights_only=False)
        if name in ("torch", "zero0"):
            key = "model" if name == "torch" else "module"
            held[key] = of(held[key])
        else:
            held["param_shapes"] = [of(shapes) for shapes in held["param_shapes"]]
            held["shared_params"] = {}
        torch.save(held, file)
        with pytest.raises(UserError) as refused:
            read(name, path)
        assert f"{path / 'engine'} must" in one_line(refused)


def test_a_checkpoint_of_which_a_file_is_gone_or_cut_is_refused(foreign: Callable[[str], Path]) -> None:
    for name in ("torch", "zero1", "zero3"):
        path = foreign(name)
        for file in [file for engine, file in FILES if engine == name]:
            content = (path / file).read_bytes()
            for damaged in (b"", content[:100], content[: len(content) // 2], b"\x00" * len(content), None):
                (path / file).unlink() if damaged is None else (path / file).write_bytes(damaged)
                with pytest.raises(UserError) as refused:
                    read(name, path)
                assert f"{path / 'engine'} must" in one_line(refused)
            (path / file).write_bytes(content)


@pytest.mark.parametrize("damage", ["half", "none", "narrow", "pickle", "cut"])
def test_a_model_folder_without_all_weights_is_refused(tmp_path: Path, damage: str) -> None:
    """transformers would draw what is missing at random, and only log that."""
    model = tmp_path / "model"
    shutil.copytree(tiny.locate("tiny"), model)
    file = model / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "pickle":
        file.unlink()
        torch.save({"more": Canary(tmp_path / "canary")}, model / "pytorch_model.bin")
    else:
        weights = load_file(file)
        kept = {"half": without_half(weights), "none": {}, "narrow": {k: v[:1].clone() for k, v in weights.items()}}
        save_file(kept[damage], file, metadata={"format": "pt"})
    with pytest.raises(UserError) as refused:
        load_model(str(model), torch.device("cpu"), None)
    assert f"model.path={model}" in one_line(refused)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("known", [True, False])
def test_the_code_in_a_model_folder_does_not_run(tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even after a question: nobody may be there to answer, or somebody who has not read it."""
    monkeypatch.setattr("builtins.input", lambda *words: "y")
    model = tmp_path / "model"
    shutil.copytree(tiny.locate("tiny"), model)
    (model / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    for file, names in (
        ("config.json", {"AutoConfig": "evil.A", "AutoModelForCausalLM": "evil.B"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.C", "evil.C"]}),
    ):
        content = json.loads((model / file).read_text()) | {"auto_map": names}
        if not known:
            content |= {"model_type": "mine", "tokenizer_class": "Mine", "architectures": ["Mine"]}
        (model / file).write_text(json.dumps(content))
    for load in (lambda: load_model(str(model), torch.device("cpu"), None), lambda: load_tokenizer(str(model))):
        if known:
            load()
        else:
            with pytest.raises(UserError) as refused:
                load()
            assert f"model.path={model}" in one_line(refused)
    assert not (tmp_path / "canary").exists()


def edited(run: Path, **changes: Any) -> Path:
    """Edit config.yaml in the place of a run that is finished."""
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes, sort_keys=False))
    return run


def test_no_variable_of_the_environment_goes_into_what_a_foreign_config_says(
    foreign: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    run = foreign("torch").parent.parent
    held = yaml.safe_load((run / "config.yaml").read_text())
    edited(run, data=held["data"] | {"system": "my key is ${oc.env:SECRET}"})
    found = subject(evaluation_settings(f"run={run}"))
    assert found.data.system == "my key is ${oc.env:SECRET}"
    assert "hunter2" not in json.dumps(found.identity())
    edited(run, data=held["data"], seed="${oc.env:SECRET}")
    with pytest.raises(UserError, match=r"seed must be a whole number, got \$\{oc.env:SECRET\}"):
        config.load(run / "config.yaml")


def test_a_prompt_keeps_what_looks_like_a_variable() -> None:
    assert typed(r"data.system='so \${x}'").data.system == "so ${x}"


TARGETS = {
    "gate": {"gate": {"_target_": "harm.Gate"}},
    "reward": {"reward": {"_target_": "harm.score"}},
    "part of the reward": {
        "reward": {"name": "answer_and_format", "extra": {"a": {"_target_": "harm.a", "weight": 1}}}
    },
    "source": {"data": {"sources": {"mine": {"_target_": "harm.Rows"}}}},
}


@pytest.mark.parametrize("changes", TARGETS.values(), ids=TARGETS)
def test_what_a_foreign_config_names_is_not_imported(
    foreign: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harm.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = foreign("torch")
    run = edited(path.parent.parent, **changes)
    for attempt in (
        lambda: subject(with_its_own(evaluation_settings(f"run={run}"), ())),
        lambda: subject(with_its_own(evaluation_settings(f"run={path}"), ())),
        lambda: config.load(run / "config.yaml"),
    ):
        with pytest.raises(UserError) as refused:
            attempt()
        assert "trust must be true" in one_line(refused) and "=harm." in one_line(refused)
        assert not (tmp_path / "canary").exists()


def test_a_reward_that_another_takes_the_place_of_needs_no_trust(
    foreign: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harm.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = edited(foreign("torch").parent.parent, **TARGETS["reward"])
    asked = evaluation_settings(f"run={run}", "reward=answer_and_format")
    assert subject(with_its_own(asked, ("reward",))).model.path == str(run / "model")
    assert not (tmp_path / "canary").exists()


def test_a_run_with_a_class_of_ones_own_goes_on_with_trust(tmp_path: Path) -> None:
    """And is evaluated and probed with it; the line that says how to go on has the word."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom gatepo.objective.gates import Erf\n"
        "@dataclass(frozen=True, slots=True, kw_only=True)\nclass Gate(Erf):\n    pass\n"
    )
    run, mine = tmp_path / "run", {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"}
    again = [
        *SMALL,
        "updates=2",
        "checkpoint.every=1",
        "gate._target_=mine.Gate",
        f"hydra.run.dir={run}",
        "resume=auto",
    ]
    assert gatepo("train", *again, **mine).returncode == 0
    assert gatepo("train", *again, **mine).stdout == f"{run} is finished\n"  # who types the class trusts it
    (run / "summary.json").unlink()
    done = gatepo("train", f"resume={run}", **mine)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "trust must be true" in done.stderr and "gate._target_=mine.Gate" in done.stderr
    asked = (f"run={run}", "limit=1", f"out={tmp_path / 'out'}")
    assert gatepo("evaluate", *asked, **mine).returncode == 2
    assert "gate._target_=mine.Gate" in gatepo("evaluate", *asked, "reward=answer_and_format", **mine).stderr
    for module, words in (("train", [f"resume={run}", "trust=true"]), ("evaluate", [*asked, "trust=true"])):
        done = gatepo(module, *words, **mine)
        assert done.returncode == 0, done.stderr


def test_how_to_go_on_names_trust_where_it_is_needed(
    runs: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs("torch"), run)
    (run / "summary.json").unlink()
    checkpoint.say_how_to_resume(run, [])
    edited(run, gate={"_target_": "mine.Gate"})
    checkpoint.say_how_to_resume(run, [])
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(f"resume={run}")
    assert second.endswith(f"resume={run} trust=true")


CUT = {
    "a number": "3",
    "a text": "gate",
    "too deep": "[" * 5000,
    "cut in a word": None,
    "a binary": "\x00\x01",
    "no mapping of groups": "gate: [1, 2]",
    "a list of keys": "? [1, 2]\n: 3",
}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_config_that_was_cut_is_said_in_one_line(foreign: Callable[[str], Path], text: str | None) -> None:
    path = foreign("torch")
    file = path.parent.parent / "config.yaml"
    whole = file.read_text()
    within = [
        whole[:at] for at in range(0, len(whole) - 1, 97) if whole[at - 1] != "\n"
    ]  # behind a line it may be whole
    for cut in [text] if text is not None else within:
        file.write_text(cut)
        with pytest.raises(UserError) as refused:
            config.load(file)
        one_line(refused)


def test_what_presets_name_needs_no_trust_and_nothing_else_of_the_package_does_without(tmp_path: Path) -> None:
    """``gatepo.durable.discard`` would remove a folder."""
    named = {
        line.partition("_target_:")[2].strip()
        for folder in ("conf", "experiments", "sweeps")
        for file in (REPO / folder).rglob("*.yaml")
        for line in file.read_text().splitlines()
        if "_target_:" in line
    }
    assert named == set(OWN)
    (tmp_path / "config.yaml").write_text("reward: {_target_: gatepo.durable.discard}\n")
    with pytest.raises(UserError, match="trust must be true"):
        config.load(tmp_path / "config.yaml")


def test_no_link_in_a_foreign_folder_leads_what_is_written_elsewhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in (".claim", "identity.json.partial", "generations.jsonl.partial", "probe.json"):
        (folder / name).symlink_to(precious)
    durable.write_text(folder / "identity.json", "{}")
    durable.write_text(folder / "probe.json", "{}")
    with json_lines.open_to_append(folder / "generations.jsonl") as file:
        json_lines.append(file, "{}")
    for attempt in (claim.held(folder, "out").__enter__, lambda: claim.refuse_if_held(folder, "out")):
        with pytest.raises(UserError, match=r"must be a folder whose \.claim is a file, got .*, where it is a link"):
            attempt()
    assert precious.read_text() == "mine"


def test_a_sampler_that_reads_the_files_itself_gets_no_model_without_all_weights(
    runs: Callable[[str], Path], tmp_path: Path
) -> None:
    """vLLM takes the three parts of a fused weight for there when one of them is."""
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    run = tmp_path / "run"
    shutil.copytree(runs("torch"), run)
    file = run / "model" / "model.safetensors"
    weights = {name: weight for name, weight in load_file(file).items() if "q_proj" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    done = gatepo("evaluate", f"run={run}", "limit=1", "rollout=vllm")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "must hold all weights of its model, got 8 missing" in done.stderr.splitlines()[-1]
