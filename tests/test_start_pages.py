"""docs/your-model.md, your-gate.md, reading-eur.md and faq.md: every command runs, on a model small enough for it."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from command import REPO, gatepo
from pages import START, commands, importable, lines, page, settings, write_files

from gatepo import tiny
from gatepo.errors import UserError
from gatepo.formulas.gate import FormulaGate
from gatepo.formulas.properties import IN_TRAINING
from gatepo.objective.gates.usable import require_derivative
from gatepo.report.groups import grouped
from gatepo.report.runs import find_runs

QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
FASTER = ("updates=2", "batch.prompts=2", "batch.num_generations=2", "batch.micro=1", "evaluate.limit=2", "threads=1")
LEARNING = ("updates=2", "batch.prompts=4", "batch.micro=8", "evaluate.limit=2", "threads=1")
MODEL_COMMANDS = ("plan", "train", "train", "evaluate", "evaluate")
SAID = re.compile(r"    \$ python -m gatepo\.train (.*)\n    (gatepo: .*)")


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model than the embedded one: random weights in bf16, with its tokenizer."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from gatepo.model import load_tokenizer

    tokenizer, folder = load_tokenizer("tiny"), tmp_path_factory.mktemp("own") / "model"
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(vocab_size=len(tokenizer), intermediate_size=96, eos_token_id=tokenizer.eos_token_id, **size)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in the place of GSM8K's, which are on the hub."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "gsm8k").mkdir()
    own = Path(tiny.locate("tiny:words")).read_text().splitlines()
    for name, part in (("train", own[:40]), ("test", own[40:44])):
        text = "".join(json.dumps(json.loads(line) | {"answer": "#### 7"}) + "\n" for line in part)
        (folder / "gsm8k" / f"{name}.jsonl").write_text(text)
    return folder


def run(line: str, cwd: Path, *more: str) -> str:
    """Type a line of a page, in short; what it prints."""
    module, *words = shlex.split(line.removeprefix(START))
    if module != "train":
        more = tuple(word for word in more if word.startswith("data."))
    done = gatepo(module, *words, *(more if module != "report" else ()), cwd=cwd)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def test_every_line_of_the_page_on_models_runs_in_turn(own_model: Path, rows: Path, tmp_path: Path) -> None:
    shorter = (*FASTER, "sampling.max_completion_length=8", "checkpoint.every=1", f"data.path={rows}")
    typed = [line.replace(QWEN, str(own_model)) for line in lines("your-model")]
    assert [line.split()[2] for line in typed] == [f"gatepo.{name}" for name in MODEL_COMMANDS]
    first, *others = typed
    assert "starting" in run(first, tmp_path, f"data.path={rows}")
    printed = [run(line, tmp_path, *shorter) for line in others]
    assert "is finished" in run(others[1], tmp_path, *shorter), "the same command goes on, and here nothing is left"
    assert (tmp_path / "outputs/mine/model/README.md").exists()
    assert all("gsm8k_test" in text for text in printed[1:])


@pytest.mark.parametrize("words", commands("your-model"))
def test_another_model_gets_what_the_page_says(words: str) -> None:
    found = settings(words)
    assert (found.optimizer.lr, found.optimizer.schedule, found.model.dtype) == (1e-6, "linear", "bfloat16")
    assert (found.batch.micro, found.sampling.max_prompt_length) == (1, 1536)
    for key in ("optimizer=paper", *re.findall(r"^\| `([\w.]+=\S+(?: [\w.]+=\S+)*)` \|", page("your-model"), re.M)):
        settings(f"{words} {key}")


def test_a_formula_and_the_class_of_the_page_are_one_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_files("your-gate", tmp_path) == ["my_gates.py"]
    importable(tmp_path, monkeypatch)
    from my_gates import Plateau

    text = shlex.split(commands("your-gate")[0])[1].removeprefix("gate.slope=")
    ratio, tau, positive = torch.linspace(0.01, 3, 500, dtype=torch.float64), torch.tensor(10.0), torch.tensor(True)
    formula, own = FormulaGate(slope_text=text), Plateau()
    torch.testing.assert_close(own.slope(ratio, tau, positive), formula.slope(ratio, tau, positive))
    torch.testing.assert_close(own.value(ratio, tau, positive), formula.value(ratio, tau, positive), atol=1e-6, rtol=0)
    assert own.half_width(10.0) == pytest.approx(formula.half_width(10.0))
    require_derivative(own, (1.0, 10.0))
    assert all(words in page("your-gate") for words in IN_TRAINING.values())


class Kinked:
    """What the page warns of: right everywhere but at r = 1, where autograd finds no slope in abs and sign."""

    def value(self, ratio: torch.Tensor, tau: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        return 1 + (ratio - 1).sign() * torch.atan(tau * (ratio - 1).abs()) / tau

    def slope(self, ratio: torch.Tensor, tau: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        return 1 / (1 + (tau * (ratio - 1)) ** 2)


def test_a_class_without_a_slope_at_one_is_refused_since_it_would_learn_nothing() -> None:
    with pytest.raises(UserError, match=r"got 1 and 0 at r = 1, tau = 10 from "):
        require_derivative(Kinked(), (10.0,))  # type: ignore[arg-type]


def test_the_class_of_the_page_learns_from_the_first_update(tmp_path: Path) -> None:
    write_files("your-gate", tmp_path)
    line = next(line for line in lines("your-gate") if "gate._target_" in line)
    run(f"{line} hydra.run.dir=own", tmp_path, *LEARNING)
    made = [json.loads(row) for row in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()]
    assert len(made) == 2 and all(row["grad_norm"] > 0 for row in made)


def test_ones_own_gate_stands_beside_another_in_the_pages_grid(tmp_path: Path) -> None:
    text = page("your-gate")
    (preset,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (grid,) = [line.strip() for line in text.splitlines() if "--config-dir mine" in line]
    (tmp_path / "mine" / "gate").mkdir(parents=True)
    (tmp_path / "mine" / "gate" / "wide.yaml").write_text(preset)
    run(grid, tmp_path, *LEARNING)
    configs = [
        yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "multirun" / "mine").glob("*/config.yaml"))
    ]
    assert [(config["gate"]["name"], config["seed"]) for config in configs] == [
        *(("erf", 0), ("erf", 1)),
        *(("custom", 0), ("custom", 1)),
    ]
    assert [group.label for group in grouped(find_runs(tmp_path / "multirun"))] == ["erf", "wide"]


def test_the_lines_of_the_page_on_gates_run_in_turn(tmp_path: Path) -> None:
    write_files("your-gate", tmp_path)
    look, *_, base, probe, of_class = [line for line in lines("your-gate") if is_run(line)]
    assert "custom" in run(look, tmp_path)
    assert (tmp_path / "gates.png").exists()
    run(base, tmp_path, *FASTER, "checkpoint.every=1")
    assert "cosine of gradients" in run(probe, tmp_path)
    assert "my_gates.Plateau" in run(of_class, tmp_path)


@pytest.mark.parametrize("words", [*commands("your-gate"), *commands("reading-eur")])
def test_all_trainings_of_the_pages_on_gates_and_eur_compose(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files("your-gate", tmp_path)
    importable(tmp_path, monkeypatch)
    settings(words)


@pytest.mark.parametrize("name", ["your-gate", "reading-eur"])
def test_what_a_grid_of_the_page_leaves_is_what_the_page_reports(name: str) -> None:
    (grid,) = [words for words in commands(name) if words.startswith("-m ")]
    assert commands(name, "report") == [grid.rpartition("hydra.sweep.dir=")[2]]


def test_a_run_of_the_page_on_eur_leaves_the_keys_that_the_page_reads(tmp_path: Path) -> None:
    base, probe = [line for line in lines("reading-eur") if is_run(line)]
    run(base, tmp_path, *FASTER, "checkpoint.every=1")
    assert "cosine of gradients" in run(probe, tmp_path)
    found = set().union(
        *(json.loads(line) for line in (tmp_path / "outputs/eur/metrics.jsonl").read_text().splitlines())
    )
    named = set(re.findall(r"`((?:eur|entropy|reward|frac)[\w/]*)`", page("reading-eur")))
    assert len(named) >= 9
    assert named <= found, named - found
    assert {f"eur/ledger/{part}" for part in ("rounding", "sampler", "staleness", "drift")} <= found
    assert all(f"`{part}`" in page("reading-eur") for part in ("rounding", "sampler", "staleness", "drift"))


def test_the_study_of_tau_runs_goes_on_and_ends_in_the_figures_that_the_page_names(tmp_path: Path) -> None:
    grid, report, study = lines("tau-on-a-laptop")
    small = (*LEARNING, "evaluate.samples=1")
    run(grid, tmp_path, *small)
    assert run(grid, tmp_path, *small).count("is finished") == 8
    configs = [yaml.safe_load(path.read_text()) for path in (tmp_path / "multirun" / "tau").glob("*/config.yaml")]
    pairs = re.findall(r"\((\d+), ([\d.]+)\)", page("tau-on-a-laptop"))
    assert {(float(pos), float(neg)) for pos, neg in pairs} == {(c["tau"]["pos"], c["tau"]["neg"]) for c in configs}
    made = Path(run(report, tmp_path).splitlines()[-1]).parent
    for name in re.findall(r"`(figure\d\w*|eur_tau|widths)`", page("tau-on-a-laptop")):
        assert (tmp_path / made / f"{name}.png").is_file(), name
    assert study.startswith(f"{START}study 'claims=[C1,C3]'")


def is_run(line: str) -> bool:
    """Say whether the line leaves or reads a single run, of the embedded model as it is."""
    return "gate._target_" not in line and "-m " not in line.removeprefix("python -m ") and "report" not in line


@pytest.mark.parametrize(("words", "said"), SAID.findall(page("faq")))
def test_every_error_of_the_page_is_what_its_command_says(words: str, said: str, tmp_path: Path) -> None:
    assert write_files("faq", tmp_path) == ["train.jsonl"]
    done = gatepo("train", *shlex.split(words), cwd=tmp_path)
    assert done.returncode == 2
    pattern = ".*".join(re.escape(part) for part in said.split("..."))
    assert re.fullmatch(pattern.replace(r"\ .*", ".*"), done.stderr.strip().splitlines()[-1]), done.stderr


def test_what_the_page_quotes_without_a_command_is_said_somewhere() -> None:
    """These need what is not here: no vLLM, a device that is full."""
    code = "".join(path.read_text() for path in (REPO / "gatepo").rglob("*.py"))
    assert len(SAID.findall(page("faq"))) == 12
    for words in (
        "needs vllm",
        "sampler and trainer do not agree",
        "out of memory during ",
        "must be a folder without a run",
    ):
        assert words in code and words in page("faq")


@pytest.mark.parametrize(
    "name", ["your-model", "your-gate", "reading-eur", "tau-on-a-laptop", "faq", "from-trl", "from-verl", "cluster"]
)
def test_the_pages_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page(name))
    assert links
    assert all((REPO / "docs" / link).exists() for link in links), links
    assert f"{name}.md" in (REPO / "mkdocs.yml").read_text()
