"""house.py names what breaks a rule: each test breaks one in a small tree that keeps the others."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import house
import pytest

Broken = dict[str, list[str]]
Examine = Callable[[dict[str, str]], Broken]

KEPT = {
    "gatepo/__init__.py": '"""A small house."""\n',
    "gatepo/settings.py": '"""Settings."""\n',
    "gatepo/config.py": '"""What is composed."""\n\nfrom gatepo.settings import setting\n',
    "gatepo/errors.py": '"""Errors."""\n',
    "gatepo/loop.py": '"""The loop."""\n\nfrom gatepo import errors\n',
    "gatepo/run.py": '"""A run."""\n\nimport gatepo.loop\n',
    "gatepo/engine/__init__.py": '"""Engines."""\n',
    "gatepo/engine/deepspeed.py": '"""DeepSpeed."""\n\nKNOWN = {"deepspeed": 1}\n',
    "gatepo/rollout/vllm.py": '"""vLLM."""\n\nfrom gatepo.engine import deepspeed\n',
    "conf/train.yaml": "engine:\n  zero_stage: 3\n",
    "conf/engine/deepspeed.yaml": "name: deepspeed\nzero_stage: 1\n",
    "conf/rollout/vllm.yaml": "name: vllm\n",
    "conf/tracker/none.yaml": "name: none\n",
}

OPTION = '''"""Options."""

from gatepo.settings import option, setting


class Engine:
    """An engine."""

    dtype: str = setting("bfloat16", "The dtype.")
    micro: int = setting(words="Completions at once.", default=-1)


@option("engine", "deepspeed")
class DeepSpeed(Engine):
    """DeepSpeed."""

    zero_stage: int = setting(2, "The stage.")
    offload: bool = setting(True, "Whether it offloads.")
    path: str = setting("", "The folder.")
'''


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Write these files over the kept house, and read what the script names under each count that it finds broken."""
    monkeypatch.setattr(house, "WING", ("gatepo/settings.py", "gatepo/config.py"))
    layers = (("errors", "settings"), ("engine", "rollout", "loop", "config"), ("run", "gatepo"))
    monkeypatch.setattr(house, "LAYERS", layers)

    def examine(files: dict[str, str]) -> Broken:
        for name, text in (KEPT | files).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(dedent(text))
        code = house.main(tmp_path)
        _, *parts = capsys.readouterr().out.strip().split("\n\n")
        broken = {part.split(":")[0]: [line.strip() for line in part.splitlines()[1:]] for part in parts}
        assert code == (1 if broken else 0)
        return broken

    return examine


def row(root: Path, what: str) -> house.Count:
    return next(count for count in house.counts(root) if count.what == what)


def test_a_kept_house_passes(examine: Examine) -> None:
    assert examine({}) == {}


def test_it_reads_this_repository(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(house.__file__).parents[1]
    code = house.main(root)
    table, *parts = capsys.readouterr().out.strip().split("\n\n")
    assert "public names without a docstring" in table
    assert code == bool(parts)


def test_the_lines_of_the_configuration_and_of_settings_elsewhere_have_a_limit_each(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    field = "    zero_stage: int = setting(\n        2,\n    )\n    other: int = setting(words=3)\n    plain: int = 2\n"
    files = {"gatepo/engine/deepspeed.py": f'"""DeepSpeed."""\n\n\nclass A:\n    """A."""\n\n{field}'}
    monkeypatch.setattr(house, "WING_LINES", 4)  # 1 + 3 in the files
    monkeypatch.setattr(house, "SETTING_LINES", 3)  # 3 + 1 elsewhere
    assert examine(files) == {}
    assert row(tmp_path, "lines of the configuration files").number == 4
    assert row(tmp_path, "lines of settings elsewhere, in options' rooms").number == 4
    monkeypatch.setattr(house, "WING_LINES", 3)
    monkeypatch.setattr(house, "SETTING_LINES", 2)
    assert examine(files) == {
        "lines of the configuration files": ["gatepo/config.py:1: 3 lines", "gatepo/settings.py:1: 1 lines"],
        "settings elsewhere of more than 2 lines": ["gatepo/engine/deepspeed.py:7"],
    }


def test_a_listed_file_of_the_configuration_must_exist(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "WING", ("gatepo/settings.py", "gatepo/gone.py"))
    assert examine({}) == {"configuration files listed and absent": ["gatepo/gone.py:1"]}


def test_a_file_over_400_lines_is_named(examine: Examine) -> None:
    assert examine({"gatepo/loop.py": '"""The loop."""\n' + "\n" * 399}) == {}
    assert examine({"gatepo/loop.py": '"""The loop."""\n' + "\n" * 400}) == {
        "lines of the longest file": ["gatepo/loop.py:401: 401 lines"]
    }


def test_a_function_over_60_lines_is_named_and_the_median_is_counted(examine: Examine, tmp_path: Path) -> None:
    def text(lines: int) -> str:
        short = "\n\ndef _one(): ...\n\n\ndef _two():\n    pass\n\n\n"
        return '"""The loop."""\n' + short + "async def _long():\n" + "    x = 1\n" * (lines - 1)

    assert examine({"gatepo/loop.py": text(60)}) == {}
    assert row(tmp_path, "lines of the median function").number == 2
    assert examine({"gatepo/loop.py": text(61)}) == {
        "functions over 60 lines": ["gatepo/loop.py:11: _long has 61 lines"]
    }


@pytest.mark.parametrize(
    "statement", ["from gatepo.engine import deepspeed", "from . import deepspeed", "from .deepspeed import KNOWN"]
)
def test_a_cycle_is_named_at_each_import_on_it(examine: Examine, statement: str) -> None:
    """run and rollout.vllm stand beside the cycle, not on it."""
    files = {
        "gatepo/engine/torch.py": f'"""PyTorch."""\n\n{statement}\n',
        "gatepo/engine/deepspeed.py": '"""DeepSpeed."""\n\nfrom gatepo.engine.torch import step\n',
    }
    assert examine(files) == {
        "imports on a cycle, at module level": [
            "gatepo/engine/deepspeed.py:3: imports gatepo.engine.torch",
            "gatepo/engine/torch.py:3: imports gatepo.engine.deepspeed",
        ]
    }


def test_a_cycle_of_three_is_named(examine: Examine) -> None:
    names = ("loop", "config", "rollout/vllm")
    texts = (f'"""A module."""\n\nimport gatepo.{name}\n' for name in ("config", "rollout.vllm", "loop"))
    assert examine({f"gatepo/{name}.py": text for name, text in zip(names, texts, strict=True)}) == {
        "imports on a cycle, at module level": [
            "gatepo/config.py:3: imports gatepo.rollout.vllm",
            "gatepo/loop.py:3: imports gatepo.config",
            "gatepo/rollout/vllm.py:3: imports gatepo.loop",
        ]
    }


def test_cycles_through_functions_and_through_typing_are_counted_apart(examine: Examine) -> None:
    files = {
        "gatepo/engine/torch.py": '"""PyTorch."""\n\nimport gatepo.engine.deepspeed as d\n',
        "gatepo/engine/deepspeed.py": '"""DeepSpeed."""\n\ndef _f():\n    from gatepo.engine.torch import step\n',
        "gatepo/config.py": '"""Composed."""\nif TYPE_CHECKING:\n    from gatepo.loop import Loop\n',
        "gatepo/loop.py": '"""The loop."""\n\nfrom gatepo import config\n',
    }
    assert examine(files) == {
        "imports on a cycle, in functions": [
            "gatepo/engine/deepspeed.py:4: imports gatepo.engine.torch",
            "gatepo/engine/torch.py:3: imports gatepo.engine.deepspeed",
        ],
        "imports on a cycle, for typing": [
            "gatepo/config.py:3: imports gatepo.loop",
            "gatepo/loop.py:3: imports gatepo.config",
        ],
    }


def test_an_import_from_a_higher_layer_is_named(examine: Examine) -> None:
    assert examine({"gatepo/errors.py": '"""Errors."""\n\nfrom gatepo.engine.deepspeed import KNOWN\n'}) == {
        "imports from a higher layer": ["gatepo/errors.py:3: imports gatepo.engine.deepspeed"]
    }
    assert examine({"gatepo/errors.py": '"""Errors."""\n\n\ndef _f():\n    import gatepo.engine.deepspeed\n'}) == {
        "imports from a higher layer, in functions": ["gatepo/errors.py:5: imports gatepo.engine.deepspeed"]
    }


def test_the_longest_name_of_a_layer_counts(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a package may stand in another layer than the package."""
    monkeypatch.setattr(house, "LAYERS", (*house.LAYERS, ("engine.deepspeed",)))
    assert examine({}) == {"imports from a higher layer": ["gatepo/rollout/vllm.py:3: imports gatepo.engine.deepspeed"]}


def test_a_module_in_no_layer_is_named(examine: Examine) -> None:
    assert examine({"gatepo/loops.py": '"""Loops."""\n'}) == {
        "modules in no layer": ["gatepo/loops.py:1: gatepo.loops"]
    }


def test_public_names_without_a_docstring_are_named(examine: Examine, tmp_path: Path) -> None:
    text = """
    class Loop(Protocol):
        def step(self): ...
        def __call__(self): ...
        def _hidden(self): ...
        @property
        def size(self): ...
        @size.setter
        def size(self, value): ...
        class Inner:
            "An inner class."
            def method(self): ...
    class _Hidden:
        def method(self): ...
    @overload
    def run(x: int): ...
    @typing.overload
    def run(x: str): ...
    def run(x):
        def nested(): ...
    if True:
        async def other(): ...
    """
    inside = ["2: Loop", "3: Loop.step", "7: Loop.size", "12: Loop.Inner.method", "19: run", "22: other"]
    broken = examine({"gatepo/loop.py": text, "gatepo/_hidden.py": "def f(): ...\n", "gatepo/engine/__main__.py": ""})
    assert broken.pop("modules in no layer") == ["gatepo/_hidden.py:1: gatepo._hidden"]
    assert broken == {
        "public names without a docstring": [
            "gatepo/engine/__main__.py:1: gatepo.engine.__main__",
            "gatepo/loop.py:1: gatepo.loop",
            *(f"gatepo/loop.py:{name}" for name in inside),
        ]
    }
    others = len([name for name in KEPT if name.endswith(".py")]) - 1
    assert row(tmp_path, "public names without a docstring").of == others + 8 + 1  # Inner has one; __main__ has none


@pytest.mark.parametrize(
    "line",
    [
        'near = name == "vllm"',
        'near = name in ("torch", "vllm")',
        'near = "vllm" != name',
        'near = {"vllm": 1}',
        'match name:\n    case "other" | "vllm": near = 1',
        'match name:\n    case {"vllm": 1}: near = 1',
    ],
)
def test_an_option_that_is_named_outside_its_room_is_named(examine: Examine, line: str) -> None:
    at = 3 + line.count("\n")
    assert examine({"gatepo/loop.py": f'"""The loop."""\n\n{line}\n'}) == {
        "implementations named outside their room": [f"gatepo/loop.py:{at}: 'vllm'"]
    }


def test_options_are_known_by_their_decorator_too(examine: Examine) -> None:
    files = {"gatepo/rollout/own.py": '"""Own."""\n\n\n@option("rollout", "own")\nclass _Own: ...\n'}
    assert examine(files | {"gatepo/loop.py": '"""The loop."""\n\nnear = name == "own"\n'}) == {
        "implementations named outside their room": ["gatepo/loop.py:3: 'own'"]
    }


@pytest.mark.parametrize("of", ["config.engine", "rollout", "self.settings.tracker"])
def test_probing_for_a_field_of_an_option_is_named(examine: Examine, of: str) -> None:
    assert examine({"gatepo/loop.py": f'"""The loop."""\n\nstage = getattr({of}, "zero_stage", 0)\n'}) == {
        "implementations named outside their room": [f"gatepo/loop.py:3: getattr({of}, 'zero_stage', 0)"]
    }


def test_other_words_and_other_probes_may_stand_outside(examine: Examine) -> None:
    text = 'import_module("vllm")\nnear = name == "none"\nsize = getattr(config, "size", getattr(engine, name))\n'
    assert examine({"gatepo/loop.py": f'"""The vllm loop."""\n\n{text}'}) == {}


@pytest.mark.parametrize(
    "text", ["2 is the default.", "2.0 is the default", "The paper uses 2.", "it uses bfloat16;", "-1 is the default"]
)
def test_a_text_that_says_a_default_again_is_named(examine: Examine, text: str) -> None:
    broken = examine({"gatepo/engine/own.py": OPTION, "gatepo/loop.py": f'"""The loop."""\n\nX = (\n    "{text}"\n)\n'})
    word = next(word for word in ("2.0", "2", "bfloat16", "-1") if word in text)
    assert broken == {"defaults that are written twice": [f"gatepo/loop.py:4: says again that {word} is a default"]}


@pytest.mark.parametrize(
    ("file", "text", "line", "key"),
    [
        ("conf/engine/deepspeed.yaml", "# DeepSpeed\nname: deepspeed\nzero_stage: 2 # the stage\n", 3, "zero_stage"),
        ("conf/engine/other.yaml", "name: deepspeed\nzero_stage: 2\n", 2, "zero_stage"),
        ("conf/engine/deepspeed.yaml", "micro: -1\n", 1, "micro"),  # inherited
        ("conf/method/own.yaml", "# @package _global_\na:\n  b: 1\nengine:\n  dtype: 'bfloat16'\n", 5, "dtype"),
        ("conf/train.yaml", "engine:\n  zero_stage: 2\n", 2, "zero_stage"),
    ],
)
def test_a_yaml_that_sets_a_default_again_is_named(examine: Examine, file: str, text: str, line: int, key: str) -> None:
    assert examine({"gatepo/engine/own.py": OPTION, file: text}) == {
        "defaults that are written twice": [f"{file}:{line}: sets {key} to its default"]
    }


def test_what_only_looks_like_a_default_passes(examine: Examine) -> None:
    """Another value, group, option or depth; a default that is no number and no text; a part of another number."""
    files = {
        "conf/engine/deepspeed.yaml": "zero_stage: 22\npath: ''\noffload: 1\nother:\n  zero_stage: 2\n",
        "conf/engine/torch.yaml": "zero_stage: 2 # of torch, by the name of the file\n",
        "conf/engine/own.yaml": "name: torch\nzero_stage: 2\n",
        "conf/kl/fixed.yaml": "name: deepspeed\nzero_stage: 2\n",
        "experiments/own.yaml": "engine:\n  zero_stage: 2\n",
        "gatepo/engine/own.py": OPTION + '\n\n@option("engine", "torch")\nclass _Torch: ...\n',
        "gatepo/loop.py": '"""12 is the default or 1 is the default, and it uses 2.5; the paper uses the 2nd."""\n',
    }
    assert examine(files) == {}


def test_without_settings_nothing_is_written_twice(examine: Examine, tmp_path: Path) -> None:
    assert examine({"gatepo/loop.py": '"""2 is the default."""\n'}) == {}
    assert row(tmp_path, "defaults that are written twice").number == 0


@pytest.mark.parametrize("word", [*house.WORDS, "Mend", ", say"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""The loop.\n\nIt is, {}."""\n', 3),
        ('"""The loop."""\n\nX = 1  # the loop {}\n', 3),
        ('"""The loop."""\n\nX = 1\nraise UserError(f"got {{X}}; loop{}, or leave")\n', 4),
    ],
)
def test_a_word_that_the_house_does_not_use_is_named(examine: Examine, word: str, text: str, line: int) -> None:
    written = word if word.startswith(",") else f" {word}"
    assert examine({"gatepo/loop.py": text.replace(" {}", "{}").format(written)}) == {
        "words that the house does not use": [f'gatepo/loop.py:{line}: "{word}"']
    }


def test_names_and_other_words_pass(examine: Examine) -> None:
    text = "tell = still = _tell = 1  # amend, until, intellect, the storyteller, it can, say what\n"
    assert examine({"gatepo/loop.py": f'"""The loop."""\n\n{text}'}) == {}


def test_a_word_may_be_data(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "WORDS_AS_DATA", {("gatepo/loop.py", "till")})
    text = '"""The loop."""\n\nWORDS = "until till wrong"\n'
    assert examine({"gatepo/loop.py": text, "gatepo/run.py": text}) == {
        "words that the house does not use": ['gatepo/run.py:3: "till"']
    }
