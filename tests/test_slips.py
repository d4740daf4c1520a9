"""Words as other programs have them, or with a slip: one line says what to type, and that can be typed."""

import re
import shlex
from pathlib import Path

import pytest
from command import gatepo
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
    for dashes in ("", "--"):
        with pytest.raises(UserError) as refused:
            slips.check(["gate=erf", f"{dashes}{key}={value}"])
        assert one_line(refused).endswith(f"; type {ours} (docs/from-trl.md)")
    if "mine." not in ours and "my_rewards" not in ours:
        settings(ours.partition(",")[0])


def test_all_names_of_trls_are_answered_at_once() -> None:
    """Each word of ours once, and what cannot be typed as it stands at the end."""
    words = [
        "loss_type=bnpo",
        "learning_rate=2e-6",
        "use_vllm=true",
        "vllm_gpu_memory_utilization=0.4",
        "num_generations=4",
    ]
    with pytest.raises(UserError) as refused:
        slips.check(words)
    said = one_line(refused)
    ours = "optimizer.lr=2e-6 rollout=vllm rollout.memory=0.3 batch.num_generations=4 aggregation=token_mean"
    assert f"got {' '.join(words)}; type {ours}, the nearest of what is here (docs/from-trl.md)" in said
    settings(ours)


def test_a_setting_of_ones_own_may_have_a_name_of_trls(tmp_path: Path) -> None:
    slips.check(["gate._target_=mine.Gate", "gate.tau=3", "+reward.beta=1"])


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("train", "reward.extra.short._target_=m.short", "type +reward.extra.short._target_=m.short"),
        ("train", "reward.extra.short.weight=2", "type +reward.extra.short.weight=2"),
        ("evaluate", "columns.AIME=[aime24]", "type +columns.AIME=[aime24]"),
        ("evaluate", "evaluate.limit=3", "did you mean limit?"),
        ("train", "-m +sweep=temprature", "did you mean +sweep=temperature?"),
        ("train", "tau.pos= 10", "got tau.pos= 10; type tau.pos=10"),
        ("evaluate", "outputs/no", "got outputs/no; type run=outputs/no"),
        ("probe", "outputs/no", "got outputs/no; type run=outputs/no"),
        ("train", "gate=relu", "or write your own: gate=custom gate.slope="),
        ("train", "gate=relu", "got gate=relu; choose one of these"),
        ("train", "tracker=mlflow", "or name a class of yours: tracker._target_=my_module.MyClass"),
        ("evaluate", "data.sources.mine.path=x.jsonl", "data.sources.mine"),
    ],
)
def test_a_slip_of_a_command_is_said_with_what_to_type(command: str, words: str, said: str) -> None:
    done = gatepo(command, *shlex.split(words))
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_key_of_no_program_is_left_to_others() -> None:
    assert slips.unknown("gaet", "erf") is None
    assert slips.option("experiment", "papr") is None
    assert slips.ambiguous("anything") is None
