"""Words as other programs have them, or with a slip: one line says what to type, and that can be typed."""

import re
import shlex

import pytest
from conftest import one_line
from pages import settings, theirs

from gatepo import slips
from gatepo.errors import UserError
from gatepo.schema import load_options

load_options()  # as every command does before it looks at its words
NOT_COMPOSED = {"resume_from_checkpoint", "reward_funcs", "train_dataset"}  # these name a file or a function


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tau.pos 5", "a setting must be KEY=VALUE, got tau.pos; type tau.pos=5"),
        ("gate=erf tau.pos", "a setting must be KEY=VALUE, got tau.pos; type tau.pos=VALUE"),
        ("--updates 5", "a setting must stand without dashes, got --updates; type updates=5"),
        ("-updates=5", "a setting must stand without dashes, got -updates=5; type updates=5"),
        ("gate=erf, clip -m", "values must have no space between them, got gate=erf,; type gate=erf,clip"),
        ("data=[gsm8k, math]", "values must have no space between them, got data=[gsm8k,; type data=[gsm8k,math]"),
        ("-m 'gate=[erf, clip]'", "gate must be options without brackets in a grid, got gate=[erf, clip]; type gate="),
    ],
)
def test_a_slip_is_said_with_what_to_type(words: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        slips.check(shlex.split(words))
    one_line(refused)


@pytest.mark.parametrize(
    "words",
    [
        "gate=erf tau.pos=5 +experiment=smoke ~tracker",
        "-m gate=erf,clip seed=0,1 hydra.sweep.dir=x",
        "--multirun data=[gsm8k,math] tracker=[wandb,tensorboard] gate=erf,clip",
        "--cfg job --package hydra gate=erf",
        "-cd folder --config-name=other --info all gate=erf --help",
        "'gate.slope=1 - tanh(r)'",
        "'data.system=Think, then answer,' gate=erf",
        "'data.system=Think, then answer,'",
    ],
)
def test_what_hydra_understands_passes(words: str) -> None:
    slips.check(shlex.split(words))


def test_every_name_of_trls_on_the_page_with_something_of_ours_is_answered() -> None:
    """But those which are named alike here, so that the nearest key is theirs."""
    alike = {"num_generations", "max_grad_norm", "weight_decay", "max_completion_length", "seed", "temperature"}
    without = {"steps_per_generation", "use_bias_correction_kl", "top_p", "top_k", "min_p", "repetition_penalty"}
    without |= {"log_completions", "reward_weights"}  # no setting, and no one setting
    missing = {name for name, _ in theirs("from-trl")} - set(slips.ELSEWHERE) - alike - without
    assert missing == set()


@pytest.mark.parametrize("name", sorted(set(slips.ELSEWHERE) - NOT_COMPOSED))
def test_what_is_said_to_type_composes(name: str) -> None:
    for words in slips.ELSEWHERE[name].split(", or "):
        settings(words.removesuffix(" for the gate's").replace("ORG/NAME", "Qwen/Qwen2.5-0.5B"))


@pytest.mark.parametrize(
    ("key", "value", "ours"),
    [
        ("learning_rate", "5e-5", "optimizer.lr=5e-5"),
        ("num_iterations", "1", "batch.iterations=1"),
        ("beta", "0.01", "kl=fixed kl.coefficient=0.01"),
        ("reward_funcs", "mine.by_length", "reward._target_=mine.by_length"),
        ("reward_funcs", "by_length", "reward._target_=my_rewards.score"),
        ("loss_type", "bnpo", "aggregation=token_mean, the nearest of what is here"),
        *(("loss_type", name, words) for name, words in slips.LOSSES.items()),
    ],
)
def test_the_value_that_was_typed_is_kept(key: str, value: str, ours: str) -> None:
    said = slips.unknown(key, value)
    assert said is not None and said.endswith(f"; type {ours} (docs/from-trl.md)")
    if "mine." not in ours and "my_rewards" not in ours:
        settings(ours.partition(",")[0])


def test_a_key_of_no_program_is_left_to_others() -> None:
    assert slips.unknown("gaet", "erf") is None
    assert slips.option("gate", "arctn") is None
    assert slips.ambiguous("anything") is None
