"""Words as other programs have them, or with a slip: one line says what to type, and that can be typed."""

import os
import re
import shlex
from pathlib import Path

import pytest
from command import gatepo
from conftest import one_line
from pages import settings, theirs

from gatepo import from_trl, slips
from gatepo.errors import UserError
from gatepo.overrides import flags_first, prepared
from gatepo.schema import load_options

load_options()  # as every command does before it looks at its words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tau.pos 5", "a setting must be KEY=VALUE, got tau.pos; type tau.pos=5"),
        ("gate=erf tau.pos", "a setting must be KEY=VALUE, got tau.pos; type tau.pos=VALUE"),
        ("updates = 5", "= must stand without spaces, got updates = 5; type updates=5"),
        ("--updates 5", "a setting must stand without dashes, got --updates; type updates=5"),
        ("-updates=5", "a setting must stand without dashes, got -updates=5; type updates=5"),
        ("gate=erf, clip -m", "values must have no space between them, got gate=erf,; type gate=erf,clip"),
        ("data=[gsm8k, math]", "values must have no space between them, got data=[gsm8k,; type 'data=[gsm8k,math]'"),
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


def test_every_name_of_trls_on_the_page_is_answered() -> None:
    assert {name for name, _ in theirs("from-trl")} - from_trl.NAMES == {"seed"}  # which is called alike


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ("learning_rate=5e-5", "optimizer.lr=5e-5"),
        ("num_iterations=1", "batch.iterations=1"),
        ("beta=0.01", "kl=fixed kl.coefficient=0.01"),
        ("beta=0.0", "kl=none"),
        ("epsilon=0.1", "gate=clip gate.eps_low=0.1 gate.eps_high=0.1"),
        ("epsilon=0.3 epsilon_high=0.28", "gate=clip gate.eps_low=0.3 gate.eps_high=0.28"),
        ("epsilon=0.2 epsilon_high=None", "gate=clip gate.eps_low=0.2 gate.eps_high=0.2"),
        ("delta=4", "gate=dual_clip gate.c=4 gate.eps_low=0.2 gate.eps_high=0.2"),
        ("loss_type=cispo epsilon_high=5", "aggregation=token_mean gate=cispo gate.eps_high=4"),
        ("loss_type=cispo", "aggregation=token_mean gate=cispo gate.eps_high=4"),
        ("loss_type=sapo", "aggregation=sequence_mean gate=sigmoid tau.pos=1 tau.neg=1.05"),
        ("loss_type=sapo sapo_temperature_neg=2", "aggregation=sequence_mean gate=sigmoid tau.pos=1 tau.neg=2"),
        ("loss_type=dr_grpo scale_rewards=False", "advantage=group_center aggregation=constant"),
        ("scale_rewards=True", "advantage=group_zscore"),
        ("importance_sampling_level=token", "ratio=token"),
        ("mask_truncated_completions=False", "sampling.overlong=keep"),
        ("gradient_checkpointing=False", "model.activation_checkpointing=false"),
        ("bf16=False", "model.dtype=float32"),
        ("use_vllm=False", "rollout=transformers"),
        ("vllm_importance_sampling_correction=False", "correction=none"),
        (
            "vllm_importance_sampling_mode=token_truncate vllm_importance_sampling_clip_max=2",
            "correction=truncate correction.level=token correction.cap=2",
        ),
        (
            "vllm_gpu_memory_utilization=0.5 use_vllm=true",
            "rollout=vllm rollout.memory=0.5 correction=mask correction.level=sequence correction.cap=3",
        ),
        ("lr_scheduler_type=cosine", "optimizer.schedule=cosine"),
        ("report_to=none", "tracker=none"),
        ("report_to=[wandb,tensorboard]", "'tracker=[wandb,tensorboard]'"),
        ("temperature=0.7", "sampling.temperature=0.7"),
        ("per_device_train_batch_size=4 gradient_accumulation_steps=8", "batch.prompts=4 batch.micro=4"),
        ("gradient_accumulation_steps=8 num_generations=4", "batch.num_generations=4 batch.prompts=16"),
        ("reward_funcs=mine.by_length", "reward._target_=mine.by_length"),
        ("reward_funcs=by_length", "reward._target_=my_rewards.by_length"),
        (
            "reward_funcs=[a.one,a.two]",
            "+reward.extra.one._target_=a.one +reward.extra.two._target_=a.two reward.weights.answer=0 "
            "reward.weights.format=0",
        ),
        ("model_name_or_path=Qwen/Qwen2.5-0.5B-Instruct", "model.path=Qwen/Qwen2.5-0.5B-Instruct"),
        ("train_dataset=trl-lib/tldr", "data=hub:trl-lib/tldr data.question=prompt"),
        ("train_dataset=rows.jsonl", "data=rows.jsonl data.question=prompt"),
        ("dataset_name=trl-lib/tldr", "data=hub:trl-lib/tldr data.question=prompt"),
        ("reward_funcs=accuracy_reward", "reward._target_=trl.rewards.accuracy_reward"),
        ("reward_funcs=['mine.by_length']", "reward._target_=mine.by_length"),
        ("max_grad_norm=0", "optimizer.max_grad_norm=inf"),
        ("resume_from_checkpoint=True", "resume=auto"),
        ("resume_from_checkpoint=outputs/mine", "resume=outputs/mine"),
        ("use_peft=True lora_r=8 lora_alpha=16", "model.adapter=lora model.adapter.rank=8 model.adapter.alpha=16"),
        ("eval_steps=50 adam_beta2=0.95", "evaluate.every=50 optimizer.beta2=0.95"),
    ],
)
def test_what_trl_calls_otherwise_is_answered_with_the_value_that_was_typed(
    given: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without dashes; and what is said to type composes."""
    words = given.split(" ")
    apart = [part for word in words for part in f"--{word}".split("=", 1)]
    for form in (words, [f"--{word}" for word in words], apart):
        with pytest.raises(UserError) as refused:
            slips.check(["updates=4", *form])
        said = one_line(refused)
        assert f"got {given}; type {typed}" in said
        assert said.removeprefix(said.partition("; type ")[0] + f"; type {typed}")[0] in "; "
    if not {"reward_funcs", "train_dataset", "dataset_name"} & {word.partition("=")[0] for word in words}:
        settings(" ".join(prepared(shlex.split(typed))))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--reward_funcs mine.a mine.b --reward_weights 1.0 0.5",
            "type +reward.extra.a._target_=mine.a +reward.extra.b._target_=mine.b +reward.extra.a.weight=1.0 "
            "+reward.extra.b.weight=0.5 reward.weights.answer=0 reward.weights.format=0 (docs",
        ),
        ("--report_to wandb tensorboard", "type 'tracker=[wandb,tensorboard]' (docs"),
        ("--learning_rate 1e-6 --num-generations 4", "type optimizer.lr=1e-6 batch.num_generations=4 (docs"),
        ("num-generations=4", "type batch.num_generations=4 (docs"),
        ("--max_steps -1 --warmup_steps 0.1", "; leave them out; max_steps: a run has updates=NUMBER; warmup_steps: "),
        ("loss_type=cispo epsilon_high=0.28", "type aggregation=token_mean gate=cispo; cispo's epsilon_high bounds r"),
        ("loss_type=dapoo", "; leave them out; loss_type=dapoo is none of TRL's"),
        ("loss_type=dapo", "; TRL has batch.iterations=1, and here it is 2 where nothing is typed"),
        ("sapo_temperature_pos=2", "sapo_temperature_... acts with loss_type=sapo alone, which is gate=sigmoid"),
        (
            "epsilon=0.2 gate=erf",
            "; leave them out; epsilon is the clip's, and tau is in its place with gate=erf (docs",
        ),
        ("epsilon=0.2 gate=clip", "type gate=clip gate.eps_low=0.2 gate.eps_high=0.2 (docs"),
        ("delta=3 gate=dual_clip", "type gate=dual_clip gate.c=3 gate.eps_low=0.2 gate.eps_high=0.2 (docs"),
        ("loss_type=dapo batch.iterations=1", "type aggregation=token_mean (docs"),
        ("gate=erf loss_type=dapo epsilon=0.2 num_iterations=2", "type batch.iterations=2 aggregation=token_mean; eps"),
        (
            "devices=4 per_device_train_batch_size=8 gradient_accumulation_steps=4 num_iterations=1",
            "type batch.iterations=1 batch.prompts=16 batch.micro=8 (docs",
        ),
        ("reward_funcs=rate", "type reward._target_=my_rewards.rate; my_rewards.py is the file that has the function"),
    ],
)
def test_nothing_of_a_command_of_trls_is_lost_or_said_wrongly(words: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        slips.check(shlex.split(words))
    assert said in one_line(refused)


@pytest.mark.parametrize(
    ("word", "typed"),
    [("tau=[10,12]", "tau.pos=10 tau.neg=12"), ("tau=(10, 12)", "tau.pos=10 tau.neg=12"), ("tau=1,2", "tau.pos=1")],
)
def test_a_pair_for_tau_is_answered_with_its_two_settings(word: str, typed: str) -> None:
    with pytest.raises(UserError, match=f"type {typed}"):
        slips.check([word])
    slips.check(["-m", "tau=t1,t5"])


@pytest.mark.parametrize("name", sorted(from_trl.ABSENT))
def test_what_trl_has_and_gatepo_has_not_is_said(name: str) -> None:
    with pytest.raises(UserError) as refused:
        slips.check([f"{name}=1", "learning_rate=1e-6"])
    assert f"type optimizer.lr=1e-6; {name}: {from_trl.ABSENT[name]} (docs" in one_line(refused)
    with pytest.raises(UserError) as refused:
        slips.check([f"{name}=1"])
    assert f"; leave them out; {name}: " in one_line(refused)


def test_the_table_of_choices_is_that_of_the_page() -> None:
    """Each word of ours that an answer has composes, whatever was typed."""
    for name, values in from_trl.CHOSEN.items():
        for value, ours in values.items():
            assert from_trl.answer({name: value}).startswith(f"type {ours}")
            settings(ours)
    for loss in from_trl.LOSSES:
        settings(from_trl.answer({"loss_type": loss}).partition(";")[0].removeprefix("type "))


def test_a_flag_alone_is_true_and_vllms_correction_is_named() -> None:
    with pytest.raises(UserError) as refused:
        slips.check(["--bf16", "--use_vllm"])
    said = one_line(refused)
    assert (
        "got bf16=true use_vllm=true; type model.dtype=bfloat16 rollout=vllm correction=mask correction.level=sequence"
        in said
    )


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
        ("train", "gate=relu", "write your own (gate=custom gate.slope="),
        ("train", "data=/some/where", "type data=/some/where/FILE.jsonl, or data=NAME data.path=/some/where for one"),
        ("train", "gate=relu", "got gate=relu; choose one of these"),
        ("train", "tracker=mlflow", "or name a class of yours: tracker._target_=my_module.MyClass"),
        ("evaluate", "data.sources.mine.path=x.jsonl", "data.sources.mine"),
    ],
)
def test_a_slip_of_a_command_is_said_with_what_to_type(command: str, words: str, said: str) -> None:
    done = gatepo(command, *shlex.split(words))
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("reward.longst=8", "; did you mean reward.longest?\n"),
        ("reward.zzz=8", "; it has reward.longest, reward.top\n"),
    ],
)
def test_a_setting_of_a_reward_of_ones_own_is_looked_for_there(tmp_path: Path, word: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(
        "def short(completions, *, longest=40, top=1.0):\n    return [top] * len(completions)\n"
    )
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"
    done = gatepo("train", "reward._target_=mine.short", word, PYTHONPATH=path)
    assert done.returncode == 2 and done.stderr.endswith(f"got {word}{said}"), done.stderr


def test_flags_may_stand_behind_settings_with_their_values() -> None:
    words = ["gate=wide", "--config-dir", "mine", "updates=2", "-m", "--cfg=job"]
    assert flags_first(words) == ["--config-dir", "mine", "-m", "--cfg=job", "gate=wide", "updates=2"]
    shown = gatepo("train", "gate=erf", "--cfg", "job", "updates=3")
    assert shown.returncode == 0 and "updates: 3" in shown.stdout


def test_a_key_of_no_program_is_left_to_others() -> None:
    assert slips.unknown("gaet", "erf") is None
    assert slips.option("experiment", "papr") is None
    assert slips.ambiguous("anything") is None
