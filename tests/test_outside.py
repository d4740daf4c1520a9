"""Every group takes an option from outside the package, by its dotted path, with its settings beside it."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from command import REPO, gatepo
from composed import typed

from gatepo import build, config, overrides, targets
from gatepo.errors import UserError
from gatepo.objective import gates
from gatepo.objective.tau import PAPERS

MODULE = """
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gatepo.engine.torch import Torch
from gatepo.data.sources import SourceOption
from gatepo.objective.tau import ConstantTau
from gatepo.rollout.transformers import Transformers
from gatepo.settings import Rule, setting


def say(what):
    with Path("said.txt").open("a") as file:
        file.write(f"{what}\\n")


@dataclass(frozen=True)
class Lorentz:
    power: float = 1.0

    def value(self, ratio, tau, positive):
        say(f"gate {self.power}")
        return 1 + torch.atan(tau * (ratio - 1)) / tau

    def slope(self, ratio, tau, positive):
        return 1 / (1 + (tau * (ratio - 1)) ** 2) ** self.power

    def half_width(self, tau):
        return 1 / tau


@dataclass(frozen=True)
class Labelled(Lorentz):
    label: "Label" = "a type that is not there"
    half: "float | None" = None


class NoWidth:
    value = slope = Lorentz.value


@dataclass(frozen=True)
class Scalar(Lorentz):
    def slope(self, ratio, tau, positive):
        return torch.ones(())


class NoDataclass:
    value, slope, half_width = Lorentz.value, Lorentz.slope, Lorentz.half_width

    def __init__(self, power):
        self.power = power


@dataclass(frozen=True)
class Falling:
    first: float
    fall: float = 0.5
    temperatures = (1.0, 10.0)

    def at_start(self, gate):
        say(f"tau {self.first}")
        return ConstantTau(pos=self.first, neg=self.first)

    def steer(self, objective, progress, controls):
        now = self.first * (1 - self.fall * progress)
        return replace(objective, tau=ConstantTau(pos=now, neg=now))

    def learn(self, metrics, controls, iterations):
        return {}


@dataclass(frozen=True)
class Halved:
    clamp: float = 20.0

    def __call__(self, logp_NT, anchor_NT, mask_NT):
        say(f"ratio {self.clamp}")
        return torch.where(mask_NT, (logp_NT - anchor_NT) / 2, 0.0).clamp(-self.clamp, self.clamp)


@dataclass(frozen=True)
class Scaled:
    by: float = 1.0

    def __call__(self, value_NT, weight_NT, mask_NT, totals):
        say(f"aggregation {self.by}")
        return self.mean(value_NT * weight_NT, mask_NT, totals)

    def mean(self, term_NT, mask_NT, totals):
        return self.by * (term_NT * mask_NT).sum() / totals.tokens


@dataclass(frozen=True)
class Product(Scaled):
    NEEDS_VALUES_ABOVE_ZERO = True


@dataclass(frozen=True)
class Signs:
    size: float = 1.0

    def __call__(self, reward_PG):
        say(f"advantage {self.size}")
        return self.size * (reward_PG - reward_PG.mean(dim=1, keepdim=True)).sign()


@dataclass(frozen=True)
class Level:
    weight: float = 1.0

    def __call__(self, anchor_NT, sampler_NT, mask_NT):
        say(f"correction {self.weight}")
        return torch.full_like(anchor_NT, self.weight)


@dataclass(frozen=True)
class Squares:
    coefficient: float = 0.1
    reference = "sampling"

    def __call__(self, logp_NT, other_NT, mask_NT, clamp):
        say(f"kl {self.coefficient}")
        return (logp_NT - other_NT).masked_fill(~mask_NT, 0.0) ** 2


@dataclass(frozen=True)
class Descent:
    lr: float
    max_grad_norm: float = 1.0

    def make(self, parameters, *, fused):
        say(f"optimizer {self.lr}")
        return torch.optim.SGD(parameters, lr=self.lr)

    def make_schedule(self, optimizer, updates):
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


@dataclass(frozen=True, kw_only=True)
class Sampler(Transformers):
    label: str = "plain"

    def make(self, parts):
        say(f"rollout {self.label}")
        return super().make(parts)


@dataclass(frozen=True, kw_only=True)
class Trainer(Torch):
    note: str = "none"

    def make(self, parts):
        say(f"engine {self.note}")
        return super().make(parts)


@dataclass(frozen=True, kw_only=True)
class Sums(SourceOption):
    largest: int = setting("The largest summand.", default=9, rule=Rule("must be >= 1", lambda value: value >= 1))

    def rows(self):
        say(f"source {self.largest}")
        return [{"question": f"{n} + 1?", "answer": n + 1, "level": n % 3} for n in range(self.largest)]


@dataclass(frozen=True)
class Kept:
    file: str = "kept.txt"

    def start(self, folder, config):
        say(f"tracker {self.file}")
        return _Keeping(folder / self.file)


class _Keeping:
    def __init__(self, path):
        self.path = path

    def log(self, update, metrics):
        with self.path.open("a") as file:
            file.write(f"{update} {sorted(metrics)[0]}\\n")

    def close(self):
        pass


def by_level(prompt, completion, *, bonus=1.0):
    say(f"reward {prompt.columns['level']} {bonus}")
    return bonus * prompt.columns["level"] + len(set(completion.text)) / 10
"""

SMALL = ("updates=2", "batch.prompts=2", "batch.num_generations=4", "batch.micro=8", "evaluate.limit=1")
BROUGHT = {
    "gate": ("Lorentz", "gate.power=1", "gate 1.0"),
    "tau": ("Falling", "tau.first=7", "tau 7.0"),
    "ratio": ("Halved", "ratio.clamp=3", "ratio 3.0"),
    "aggregation": ("Scaled", "aggregation.by=2", "aggregation 2.0"),
    "advantage": ("Signs", "advantage.size=3", "advantage 3.0"),
    "correction": ("Level", "correction.weight=0.5", "correction 0.5"),
    "kl": ("Squares", "kl.coefficient=0.3", "kl 0.3"),
    "optimizer": ("Descent", "optimizer.lr=0.01", "optimizer 0.01"),
    "rollout": ("Sampler", "rollout.label=mine", "rollout mine"),
    "engine": ("Trainer", "engine.note=mine", "engine mine"),
    "tracker": ("Kept", "tracker.file=mine.txt", "tracker mine.txt"),
    "data.sources.sums": ("Sums", "data.sources.sums.largest=5", "source 5"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module that no package holds."""
    made = tmp_path_factory.mktemp("outside")
    (made / "brought.py").write_text(MODULE)
    return made


@pytest.fixture
def importable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the module says what was called
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "brought", raising=False)


@pytest.mark.parametrize("key", BROUGHT)
def test_an_option_from_outside_trains_with_its_settings(folder: Path, tmp_path: Path, key: str) -> None:
    name, setting, said = BROUGHT[key]
    words = (f"{key}._target_=brought.{name}", setting, f"hydra.run.dir={tmp_path / 'run'}")
    done = gatepo("train", *SMALL, *words, cwd=tmp_path, PYTHONPATH=f"{folder}{os.pathsep}{Path(__file__).parents[1]}")
    assert done.returncode == 0, done.stderr
    assert said in (tmp_path / "said.txt").read_text().splitlines()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    held = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for part in key.split("."):
        held = held[part]
    assert held["_target_"] == f"brought.{name}"
    typed_in = yaml.safe_load(setting.partition("=")[2])
    assert held[setting.partition("=")[0].rpartition(".")[2]] == typed_in


def test_a_run_rests_on_the_code_that_it_brings(tmp_path: Path) -> None:
    """Which no setting holds: with another body of the class a run does not go on, and a replay names it as a cause."""
    module, run = tmp_path / "brought.py", tmp_path / "run"
    module.write_text(MODULE)
    path = {"cwd": tmp_path, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}"}
    words = ("advantage._target_=brought.Signs", "advantage.size=1", "checkpoint.every=1", f"hydra.run.dir={run}")
    assert gatepo("train", *SMALL, *words, **path).returncode == 0
    digest = hashlib.sha256(MODULE.encode()).hexdigest()
    (start,) = json.loads((run / "run.json").read_text())["starts"]
    assert start["outside"] == {"brought.Signs": digest}

    module.write_text(MODULE.replace("self.size * (reward_PG", "2 * self.size * (reward_PG"))
    on = (f"resume={run}", "trust=true", "updates=3")
    refused = gatepo("train", *on, **path)
    assert refused.returncode == 2
    said = refused.stderr.splitlines()[-1]
    assert said.startswith("gatepo: brought.Signs must stay as it was when run was trained, got a file with")
    assert digest in said
    again = gatepo("replay", str(run), f"out={tmp_path / 'again'}", "trust=true", **path)
    assert again.returncode == 1, again.stderr
    assert f"outside.brought.Signs {digest} -> " in again.stdout

    module.write_text(MODULE)
    went_on = gatepo("train", *on, **path)
    assert went_on.returncode == 0, went_on.stderr
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


def test_what_a_run_has_imported_counts_and_not_what_its_file_has_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is written long after the class was imported, and its file may be edited in between."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "edited", raising=False)
    file, held = tmp_path / "edited.py", {"gate": {"_target_": "edited.Mine"}}
    file.write_text("class Mine:\n    pass\n")
    begun = targets.digests(held)
    assert begun == {"edited.Mine": hashlib.sha256(file.read_bytes()).hexdigest()}
    file.write_text("class Mine:\n    other = True\n")
    assert targets.digests(held) == begun


def test_a_reward_in_the_place_of_ours_reads_the_rows_further_columns(folder: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{n} + 1?", "answer": n + 1, "level": n % 3, "hint": None} for n in range(8)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("data=own", "+source@data.sources.mine=own", "data.sources.mine.path=mine.jsonl")
    reward = ("reward._target_=brought.by_level", "reward.bonus=2")
    done = gatepo(
        *("train", *SMALL, *words, *reward, f"hydra.run.dir={tmp_path / 'run'}"),
        cwd=tmp_path,
        PYTHONPATH=f"{folder}{os.pathsep}{Path(__file__).parents[1]}",
    )
    assert done.returncode == 0, done.stderr
    said = set((tmp_path / "said.txt").read_text().splitlines())
    assert said <= {"reward 0 2", "reward 1 2", "reward 2 2"} and len(said) > 1
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["rewards/by_level/mean"] == pytest.approx(row["reward"])
    assert "rewards/answer/mean" not in row


def test_a_config_with_options_from_outside_is_read_back_the_same(importable: None, tmp_path: Path) -> None:
    words = ("gate._target_=brought.Lorentz", "gate.power=1.0", "reward._target_=brought.by_level", "reward.bonus=3")
    made = typed(*overrides.prepared(words))
    plain = config.plain(made)
    assert plain["gate"] == {"_target_": "brought.Lorentz", "power": 1.0}
    assert plain["reward"] == {"_target_": "brought.by_level", "bonus": 3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    again = config.load(tmp_path / "config.yaml", trust=True)
    assert again.gate == made.gate
    assert config.plain(again) == plain | {"trust": True}
    assert build.objective(made).gate == made.gate


def test_a_preset_of_ones_own_may_name_a_class(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "myconf" / "gate").mkdir(parents=True)
    (tmp_path / "myconf" / "gate" / "mine.yaml").write_text("_target_: brought.Lorentz\npower: 1.0\n")
    words = ("--config-dir", "myconf", "gate=mine", "--cfg", "job")
    done = gatepo("train", *words, cwd=tmp_path, PYTHONPATH=f"{folder}{os.pathsep}{Path(__file__).parents[1]}")
    assert "_target_: brought.Lorentz" in done.stdout, done.stderr


def test_settings_may_have_types_that_hydra_does_not_know(importable: None) -> None:
    made = typed(*overrides.prepared(["gate._target_=brought.Labelled", "gate.label=x", "gate.half=1"]))
    assert (made.gate.label, made.gate.half) == ("x", 1.0)


def test_a_config_may_name_a_class(importable: None) -> None:
    held = config.plain(typed()) | {"gate": {"_target_": "brought.Lorentz", "power": 1.0}}
    assert type(config.from_plain(type(typed()), held).gate).__name__ == "Lorentz"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gate._target_=Lorentz"], "gate._target_ must be module.Class, got Lorentz; e.g. my.module.MyClass"),
        (["gate._target_=gone.Lorentz"], "gate._target_ must be importable, got gone.Lorentz (No module named 'gone')"),
        (["gate._target_=brought.Gone"], "gate._target_ must be importable, got brought.Gone (module 'brought' has no"),
        (["gate._target_=brought.MODULE"], "gate._target_ must be importable, got brought.MODULE"),
        (
            ["gate._target_=brought.NoWidth"],
            "gate._target_ must have value, slope, half_width, got brought.NoWidth",
        ),
        (
            ["gate._target_=brought.NoDataclass"],
            "gate._target_ must be a dataclass, whose fields are its settings",
        ),
        (
            ["reward._target_=brought.by_level", "+reward.extra.more._target_=brought.by_level"],
            "reward.extra must be a setting of brought.by_level, which stands for the whole reward and has bonus, got",
        ),
        (["tau._target_=brought.Falling"], "tau.first must be given, got nothing; type tau.first=VALUE"),
        (["engine._target_=brought.Level"], "engine._target_ must have make, read_weights, shares_weights, kept_bytes"),
        (
            ["gate._target_=brought.Lorentz", "gate.power=2"],
            "gate must have a slope that is the derivative of its value, got",
        ),
        (
            ["aggregation._target_=brought.Product", "gate=aspo"],
            "gate must have f(r) - f(1) + 1 > 0 with aggregation=brought.Product, got gate=aspo with ",
        ),
        (["gate._target_=brought.Scalar"], "gate must give value and slope in the ratio's shape (2000,), got"),
    ],
)
def test_what_is_no_option_is_refused_in_one_line(importable: None, words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build.objective(typed(*overrides.prepared(words)))
    assert str(caught.value).startswith(message)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_from_outside_keeps_its_own_rules(importable: None) -> None:
    words = ["data.sources.sums._target_=brought.Sums", "data.sources.sums.largest=0"]
    with pytest.raises(UserError, match=r"^data\.sources\.sums\.largest must be >= 1, got 0; 9 is the default$"):
        typed(*overrides.prepared(words))


def test_python_takes_them_as_they_are(importable: None) -> None:
    import brought  # type: ignore[import-not-found]

    from gatepo.integrations.gates_and_taus import as_gate

    assert as_gate(brought.Lorentz(), PAPERS) == brought.Lorentz()
    assert as_gate("erf", PAPERS) == gates.get("erf")


def test_the_integrations_refuse_what_is_no_gate(importable: None) -> None:
    import brought

    from gatepo.formulas.gate import FormulaGate
    from gatepo.integrations.gates_and_taus import as_gate

    for gate in (42, None, "tanh", gates.Erf, brought.Falling(first=1.0)):
        with pytest.raises(UserError, match=r"^gate must be one of sigmoid, .* or a Gate, got .*; give an object"):
            as_gate(gate, PAPERS)
    with pytest.raises(UserError, match=r"^gate must have a slope that is the derivative of its value, got"):
        as_gate(brought.Lorentz(power=2), PAPERS)
    with pytest.raises(UserError, match=r"^gate\.slope may name x, tau, pi, E only, got the name y"):
        as_gate(FormulaGate(slope_text="1/(1+y)"), PAPERS)
