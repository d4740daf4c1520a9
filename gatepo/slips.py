"""Words of a command line as other programs have them, or with a slip in their form: what to type here instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gatepo.errors import UserError
from gatepo.presets import names
from gatepo.settings import is_named, options

ADDED = ("experiment", "method", "sweep")  # groups that no default has chosen, so that Hydra wants a plus
MULTIRUN = ("-m", "--multirun")
FLAGS = (
    *MULTIRUN,
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-r",
    "--run",
    "--resolve",
    "-sc",
    "--shell-completion",
)
WITH_A_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"),
    *("--experimental-rerun", "-i", "--info"),
)
ELSEWHERE = {  # TRL's names as docs/from-trl.md has them, and what one might call them
    "beta": "kl=fixed kl.coefficient=0.04",
    "epsilon": "gate=clip gate.eps_low=0.2 gate.eps_high=0.2",
    "epsilon_high": "gate=clip gate.eps_high=0.28",
    "delta": "gate=dual_clip gate.c=3",
    "loss_type": "aggregation=token_mean",
    "importance_sampling_level": "ratio=sequence",
    "scale_rewards": "advantage=group_center",
    "learning_rate": "optimizer.lr=1e-6",
    "lr_scheduler_type": "optimizer.schedule=linear",
    "warmup_steps": "optimizer.warmup=10",
    "num_iterations": "batch.iterations=2",
    "per_device_train_batch_size": "batch.prompts=16 batch.micro=8",
    "gradient_accumulation_steps": "batch.micro=8",
    "num_generations": "batch.num_generations=8",
    "max_prompt_length": "sampling.max_prompt_length=512",
    "max_completion_length": "sampling.max_completion_length=256",
    "max_steps": "updates=500",
    "num_train_epochs": "updates=500",
    "bf16": "model.dtype=bfloat16",
    "gradient_checkpointing": "model.activation_checkpointing=true",
    "mask_truncated_completions": "sampling.overlong=filter",
    "use_vllm": "rollout=vllm",
    "vllm_gpu_memory_utilization": "rollout=vllm rollout.memory=0.3",
    "vllm_tensor_parallel_size": "rollout=vllm rollout.tensor_parallel_size=1",
    "vllm_importance_sampling_correction": "correction=mask",
    "vllm_importance_sampling_mode": "correction=mask correction.level=sequence",
    "vllm_importance_sampling_clip_max": "correction=mask correction.cap=3",
    "reward_funcs": "reward._target_=my_rewards.score",
    "save_steps": "checkpoint.every=50",
    "resume_from_checkpoint": "resume=FOLDER",
    "report_to": "tracker=wandb",
    "train_dataset": "data=train.jsonl",
    "model_name_or_path": "model.path=ORG/NAME",
    "gate.tau": "tau.pos=5 tau.neg=5",
    "temperature": "sampling.temperature=1.0, or tau.pos=5 tau.neg=5 for the gate's",
}
LOSSES = {
    **{"grpo": "aggregation=sequence_mean", "dr_grpo": "aggregation=constant", "luspo": "aggregation=sequence_sum"},
    **{"dapo": "aggregation=token_mean", "sapo": "gate=sigmoid tau.pos=1 tau.neg=1.05", "vespo": "+method=vespo"},
    "cispo": "gate=cispo aggregation=token_mean gate.eps_high=4",
}  # by TRL's loss_type
CARRIED = {
    *("beta", "learning_rate", "num_iterations", "warmup_steps", "max_steps", "save_steps"),
    *("num_generations", "max_prompt_length", "max_completion_length"),
}
"""TRL's names whose number goes into our last word as it is."""
OWN_GATE = "gate=custom gate.slope='1/(1+(tau*(x-1))**2)', or gate._target_=my_module.MyGate (docs/your-gate.md)"
NUMBERS = {"kl": "kl=fixed kl.coefficient={}"}  # a number for an option that none of its settings needs


def check(words: Sequence[str], command: str = "train") -> None:
    """Refuse what Hydra would refuse in words that help nobody.

    Args:
      words: of the command line.
      command: the name of its configuration.
    Raises:
      UserError: a setting has dashes, no "=", a space behind a comma or "=", a name of TRL's, or brackets around the
        options of a grid.
    """
    keys = [word.lstrip("-").partition("=")[0] for word in words]
    theirs = [
        word for word, key in zip(words, keys, strict=True) if "=" in word and key in ELSEWHERE and "." not in key
    ]
    if theirs:
        ours = sorted((_ours(*word.lstrip("-").split("=", 1)) for word in theirs), key=lambda said: "," in said)
        said = " ".join(dict.fromkeys(" ".join(ours).split()))  # each word once
        raise UserError(
            f"settings must have the names of gatepo, got {' '.join(theirs)}; type {said} (docs/from-trl.md)"
        )
    grid = bool(set(MULTIRUN) & set(words))
    for before, word, behind in zip(["", *words], words, [*words[1:], ""], strict=False):
        key, equals, value = word.partition("=")
        if before in WITH_A_VALUE or word in FLAGS or key in WITH_A_VALUE or word.startswith("~"):
            continue
        if word.startswith("-"):
            bare = word.lstrip("-") if equals else f"{word.lstrip('-')}={_value(behind)}"
            raise UserError(f"a setting must stand without dashes, got {word}; type {bare}")
        if word.endswith(",") and _value(behind) == behind:
            raise UserError(f"values must have no space between them, got {word}; type {word}{behind}")
        if not equals and before.endswith("="):
            raise UserError(f"a value must stand right behind the =, got {before} {word}; type {before}{word}")
        if not equals:
            takes_run = command in ("evaluate", "probe") and "/" in word
            meant = f"run={word}" if takes_run else f"{word}={_value(behind)}"
            raise UserError(f"a setting must be KEY=VALUE, got {word}; type {meant}")
        group = key.lstrip("+").replace(".", "/")
        if grid and value.startswith("[") and key != "tracker" and options(group) and is_named(group):
            without = value.strip("[]").replace(" ", "")
            raise UserError(f"{key} must be options without brackets in a grid, got {word}; type {key}={without}")


def _value(behind: str) -> str:
    return behind if behind and "=" not in behind and not behind.startswith("-") else "VALUE"


def unknown(key: str, value: str) -> str | None:
    """Say what to type for a key that is no setting; None where nothing is known of it."""
    if key in ADDED:
        return f"{key} must be added with a plus, got {key}={value}; type +{key}={value}"
    if key in ELSEWHERE:
        return f"{key} must be a setting of what is chosen, got {key}={value}; type {ELSEWHERE[key]}"
    return None


def _ours(key: str, value: str) -> str:
    """Give our words for one of TRL's, with the value that was typed where it means the same here."""
    words = ELSEWHERE[key]
    if key == "loss_type":
        return LOSSES.get(value, f"{words}, the nearest of what is here")
    number = key in CARRIED and re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value)
    path = key == "reward_funcs" and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value)
    return f"{words.rpartition('=')[0]}={value}" if number or path else words


def option(group: str, name: str) -> str | None:
    """Say what to type for a name that is no option; None where nothing is known of it."""
    if name in names("method") and group != "method":
        return f"type +method={name}"
    if group == "model":
        return f"type model.path={name}"
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name) and is_named(group):
        return f"type {group}._target_={name}"
    if group == "gate":
        return f"choose one of these, or write your own: {OWN_GATE}"
    if options(group) and is_named(group):
        return f"choose one of these, or name a class of yours: {group}._target_=my_module.MyClass"
    return None


def ambiguous(text: str) -> str | None:
    """Explain Hydra's refusal of several values for one run; None where the text is none."""
    match = re.search(r"Ambiguous value for argument '(?P<word>[^']*)'", text)
    if match is None:
        return None
    key, _, values = match["word"].partition("=")
    return f"{key} must have one value, got {values}; add -m for a run with each (a list stands in brackets)"
