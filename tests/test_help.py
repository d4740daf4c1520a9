"""``help=WORD`` says what an option and its settings mean; a misspelt word is answered with the nearest."""

import subprocess
import sys
from dataclasses import fields, is_dataclass

import pytest
from composed import typed
from conftest import REPO

from gatepo import cli, overrides
from gatepo.errors import UserError
from gatepo.help import page
from gatepo.presets import names
from gatepo.schema import COMMANDS, TrainConfig
from gatepo.settings import about, groups, key_of, options


def test_a_group_shows_each_option_with_meaning_default_and_range_of_its_settings() -> None:
    said = page("train", "gate")
    assert said.startswith(
        "gate: What damps the update when the policy drifts: f of eq. 3. Where nothing is typed it is gate=erf."
    )
    for name in names("gate"):
        assert f"\ngate={name} " in said
    (line,) = [line for line in page("train", "gate=clip").splitlines() if "gate.eps_low=" in line]
    assert line.split(maxsplit=1) == [
        "gate.eps_low=0.2",
        "Where A <= 0, r < 1 - eps_low is clipped. It must be in (0, 1).",
    ]


@pytest.mark.parametrize("group", groups())
def test_every_setting_of_every_group_is_there(group: str) -> None:
    word = group.replace("/", ".")  # model/adapter is typed so
    said = " ".join(page("train", word).split())
    for kind in options(group).values():
        for f in fields(kind):
            if not is_dataclass(f.default_factory):  # whose settings are there in its place
                assert f"{word}.{key_of(f)}=" in said
                assert " ".join(about(f).words.split()) in said


def test_the_range_is_the_rules_own_words() -> None:
    said = " ".join(page("train", "batch").split())
    assert "batch.prompts=16 Prompts per update, over all devices. It must be >= 1." in said
    assert (
        "batch.num_generations=8 G, completions per prompt. It must be >= 2, a group of one has no advantage." in said
    )
    assert "model.path=(must be given)" in page("train", "model=own")


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("updates", "updates=200"),
        ("batch.prompts", "batch.prompts=16"),
        ("tau.pos", "with tau=target_eur"),
        ("optimizer.lr", "optimizer.lr=(must be given)"),
        ("reward.weights.answer", "reward.weights.answer=1.0"),
        ("reward.weights", "reward.weights.format=1.0"),
        ("jobs", "jobs=1"),
        ("clip", "gate.eps_low=0.2"),  # an option's name alone
        ("clip_dapo", "eps_high: 0.28"),  # a preset's file
        ("method", "+method=dapo"),
        ("method=dapo", "filter: answer"),
        ("sweep", "+sweep=temperature"),
        ("tracker", "tracker.mode=offline"),
    ],
)
def test_it_is_asked_about_a_key_an_option_or_a_preset(word: str, part: str) -> None:
    assert part in page("train", word)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_knows_its_own_settings(command: str) -> None:
    for f in fields(COMMANDS[command]):
        assert page(command, key_of(f))
    with pytest.raises(UserError, match="must name a group"):
        page("gates", "tracker")


def test_a_group_in_the_plural_is_the_group() -> None:
    """And a grid of that name comes after it."""
    said = page("train", "gates")
    assert said.startswith(page("train", "gate")) and "+sweep=gates" in said


@pytest.mark.parametrize(
    ("word", "near"),
    [("gaet", "gate"), ("batch.pormpts", "batch.prompts"), ("arctn", "arctan"), ("trakcer", "tracker")],
)
def test_a_misspelt_word_of_help_is_answered_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UserError, match=f"got help={word}; did you mean help={near}[?] --help lists all"):
        page("train", word)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("gaet=erf", "got gaet=erf; did you mean gate? help=gate shows it, --help lists all"),
        ("batch.pormpts=8", "got batch.pormpts=8; did you mean batch.prompts? help=batch.prompts shows it"),
        ("gate=arctn", "got gate=arctn; did you mean gate=arctan?"),
        ("gate.epslow=0.1", "got gate.epslow=0.1; did you mean gate.eps_low?"),
        ("evaluat.every=3", "did you mean evaluate.every?"),
        ("jbos=2", "did you mean jobs?"),
        ("+tau.poss=3", "tau.poss must be a setting, got 3 for one that does not exist here; did you mean tau.pos?"),
        ("+method=dappo", "got method=dappo; did you mean +method=dapo?"),
        ("data=[gsm8k,mth500]", "got data=mth500; did you mean data=math500?"),
        ("gate=sapo", "got gate=sapo; type +method=sapo"),  # and not aspo, which is near
        ("tracker=wadnb", "got tracker=wadnb; did you mean tracker=wandb?"),
    ],
)
def test_a_misspelt_key_or_option_is_answered_with_the_nearest(
    word: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", word])
    with pytest.raises(Exception) as caught:
        typed(*overrides.prepared([word]))
    said = cli.one_line(caught.value, TrainConfig)
    assert said is not None and line in said and "\n" not in said


@pytest.mark.parametrize("command", ["train", "plan", "gates"])
def test_help_on_a_word_does_not_wait_for_torch(command: str) -> None:
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
        "finally: print('torch came:', 'torch._C' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"gatepo.{command}", "help=gate"],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "gate.eps_low=0.2" in done.stdout and done.stdout.splitlines()[-1] == "torch came: False"
