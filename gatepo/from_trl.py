"""TRL's settings in the words of this program, with the values that were typed: the answer to a command that has them.

Read in ``trl/trainer/grpo_config.py`` and ``grpo_trainer.py`` of TRL 1.16; docs/from-trl.md has them as a table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

CARRIED = {
    **{"learning_rate": "optimizer.lr", "warmup_steps": "optimizer.warmup", "max_steps": "updates"},
    **{"weight_decay": "optimizer.weight_decay", "adam_epsilon": "optimizer.eps"},
    **{"adam_beta1": "optimizer.beta1", "adam_beta2": "optimizer.beta2", "attn_implementation": "model.attention"},
    **{"num_iterations": "batch.iterations", "num_generations": "batch.num_generations"},
    **{"max_prompt_length": "sampling.max_prompt_length", "max_completion_length": "sampling.max_completion_length"},
    **{"temperature": "sampling.temperature", "save_steps": "checkpoint.every", "output_dir": "hydra.run.dir"},
    **{"eval_steps": "evaluate.every", "model_name_or_path": "model.path"},
    **{"lora_r": "model.adapter=lora model.adapter.rank", "lora_alpha": "model.adapter=lora model.adapter.alpha"},
    "lora_dropout": "model.adapter=lora model.adapter.dropout",
    **{"vllm_gpu_memory_utilization": "rollout=vllm rollout.memory"},
    "vllm_tensor_parallel_size": "rollout=vllm rollout.tensor_parallel_size",
}
"""Names whose value is typed behind ours as it is."""
COUNTS = {
    **{"warmup_steps": "optimizer.warmup counts updates", "save_steps": "checkpoint.every counts updates"},
    **{"eval_steps": "evaluate.every counts updates", "max_steps": "a run has updates=NUMBER"},
}
"""Those of them that are whole numbers here, and what to say of others."""
CHOSEN = {
    "importance_sampling_level": {"token": "ratio=token", "sequence": "ratio=sequence"},
    "scale_rewards": {
        **{"group": "advantage=group_zscore", "true": "advantage=group_zscore", "none": "advantage=group_center"},
        **{"false": "advantage=group_center", "batch": "advantage=reinforce_pp_baseline"},
    },
    "lr_scheduler_type": {
        **{"linear": "optimizer.schedule=linear", "cosine": "optimizer.schedule=cosine"},
        **{"constant": "optimizer.schedule=constant", "constant_with_warmup": "optimizer.schedule=constant"},
    },
    "mask_truncated_completions": {"true": "sampling.overlong=filter", "false": "sampling.overlong=keep"},
    "gradient_checkpointing": {f"{on}": f"model.activation_checkpointing={on}" for on in ("true", "false")},
    "bf16": {"true": "model.dtype=bfloat16", "false": "model.dtype=float32"},
    "use_vllm": {"true": "rollout=vllm", "false": "rollout=transformers"},
    "use_peft": {"true": "model.adapter=lora", "false": "model.adapter=none"},
}
"""Names whose values, in small letters, stand for words of ours."""
LOSSES = {
    **{"grpo": "aggregation=sequence_mean", "dr_grpo": "aggregation=constant", "luspo": "aggregation=sequence_sum"},
    **{"dapo": "aggregation=token_mean", "bnpo": "aggregation=token_mean", "sapo": "aggregation=sequence_mean"},
    **{"vespo": "+method=vespo", "cispo": "aggregation=token_mean"},
}  # by loss_type, without the gate
_TEMPERATURES = ("sapo_temperature_pos", "sapo_temperature_neg")
_GATES = ("loss_type", "epsilon", "epsilon_high", "delta", *_TEMPERATURES)
_CLIPS = ("clip", "dual_clip")
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
_CORRECTION = tuple(f"vllm_importance_sampling_{name}" for name in ("correction", "mode", "clip_max"))
ABSENT = {
    **dict.fromkeys(("top_p", "top_k", "min_p", "repetition_penalty"), "always off, since it would bias the ratio"),
    **dict.fromkeys(("steps_per_generation", "generation_batch_size"), "a rollout batch is one update's prompts"),
    **{"num_train_epochs": "a run has updates=NUMBER", "warmup_ratio": "optimizer.warmup counts updates"},
    **{"logging_steps": "every update is logged", "log_completions": "always on, in completions.jsonl"},
    **{"use_bias_correction_kl": "the KL is added as it is", "vllm_mode": "vLLM is always in the training process"},
    **{
        "sync_ref_model": "the reference of kl.reference=initial stays",
        "fp16": "there is bfloat16 alone",
    },
    **{"reward_weights": "each reward.extra.NAME has its weight", "use_cpu": "a GPU is taken where there is one"},
    "config": "a file of TRL's is not read, type its settings",
    **dict.fromkeys(
        ("vllm_server_host", "vllm_server_port", "vllm_server_base_url", "vllm_group_port"),
        "vLLM is always in the training process",
    ),
    **dict.fromkeys(("entropy_coef", "use_adaptive_entropy", "entropy_target"), "there is no bonus for entropy"),
    **{"top_entropy_quantile": "all tokens learn", "use_liger_kernel": "the head never holds all logits anyway"},
    **{"cast_lm_head_to_fp32": "the head is always in fp32", "remove_unused_columns": "all columns reach the reward"},
    **{"deepspeed": "engine=deepspeed has its own settings, and reads no file"},
    **{"run_name": "tracker.title=NAME names a run of W&B", "logging_dir": "all lies in the run's folder"},
    **{
        "vllm_max_model_length": "sampling's two lengths are vLLM's",
        "chat_template_kwargs": "a template is taken as it is",
    },
}
"""Names that have no word of ours, and why."""
_OTHERS = ("beta", "max_grad_norm", "resume_from_checkpoint", "reward_funcs", "report_to", "train_dataset")
ALIKE = {"dataset_name": "train_dataset", "vllm_importance_sampling_cap": "vllm_importance_sampling_clip_max"}
"""Other names of the same, of TRL's scripts or its older versions."""
NAMES = {*CARRIED, *CHOSEN, *ABSENT, *_GATES, *_BATCH, *_CORRECTION, *_OTHERS, *ALIKE}
SEVERAL = ("reward_funcs", "reward_weights", "report_to")  # may have several values behind them
_MINE = "my_rewards"  # the module of a function of which the name alone is known
# Those that trl/scripts/grpo.py knows by name.
_TRLS = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")


def answer(given: Mapping[str, str], beside: Mapping[str, str] | None = None) -> str:
    """Say what to type for settings of TRL's, by name, with the values that were typed.

    Args:
      given: TRL's.
      beside: our own settings that were typed with them.
    """
    given, beside = {ALIKE.get(name, name): value for name, value in given.items()}, beside or {}
    words: list[str] = []
    for name, value in given.items():
        if name in CARRIED and (name not in COUNTS or value.isdecimal()):
            words.append(f"{CARRIED[name]}={value}")
        elif name in CHOSEN and value.lower() in CHOSEN[name]:
            words.append(CHOSEN[name][value.lower()])
    words += [*_gate(given, beside), *_batch(given, beside), *_correction(given), *_others(given)]
    each = dict.fromkeys(" ".join(words).split(" ")) if words else {}
    typed = f"type {' '.join(_safe(word) for word in each)}" if each else "leave them out"
    return "; ".join([typed, *_doubts(given, beside)])


def _doubts(given: Mapping[str, str], beside: Mapping[str, str]) -> Iterator[str]:
    """Say what no word of ours stands for, and what differs all the same."""
    for name, value in given.items():
        if name in COUNTS and not value.isdecimal():
            yield f"{name}: {COUNTS[name]}"
        elif name in CHOSEN and value.lower() not in CHOSEN[name]:
            yield f"{name}={value} has no like here"
        elif name in ABSENT and not (name == "reward_weights" and _weights(given)):
            yield f"{name}: {ABSENT[name]}"
    loss, other = given.get("loss_type", "").lower(), beside.get("gate", "clip")
    if loss and loss not in LOSSES:
        yield f"loss_type={loss} is none of TRL's"
    if loss == "bnpo":
        yield "loss_type=bnpo is not here, token_mean is the nearest"
    if loss == "cispo" and _less_one(given.get("epsilon_high", "5")) is None:
        yield "cispo's epsilon_high bounds r itself, and must be above 1"
    if loss != "sapo" and set(_TEMPERATURES) & set(given):
        yield "sapo_temperature_... acts with loss_type=sapo alone, which is gate=sigmoid tau.pos=1 tau.neg=1.05"
    if _is_clipped(given) and other not in _CLIPS:
        yield f"epsilon is the clip's, and tau is in its place with gate={other}"
    if given.get("scale_rewards", "").lower() == "batch":
        yield "scale_rewards=batch is not here, reinforce_pp_baseline is the nearest"
    if any(name in given for name in _BATCH) and "devices" not in beside:
        yield "batch.prompts counts over all devices, here for one"
    iterations = "num_iterations" in given or "batch.iterations" in beside
    if any(name in given for name in (*_BATCH, "loss_type")) and not iterations:
        yield "TRL has batch.iterations=1, and here it is 2 where nothing is typed"
    if any(path.startswith(f"{_MINE}.") for path in _paths(given.get("reward_funcs", ""))):
        yield f"{_MINE}.py is the file that has the function"


def _is_clipped(given: Mapping[str, str]) -> bool:
    """Say whether TRL's loss is one of those that are clipped, with a setting of the clip."""
    own = given.get("loss_type", "").lower() in ("cispo", "sapo", "vespo")
    return not own and any(name in given for name in ("epsilon", "epsilon_high", "delta"))


def _gate(given: Mapping[str, str], beside: Mapping[str, str]) -> list[str]:
    """Give the gate and the aggregation: several names of TRL's make one gate."""
    loss = given.get("loss_type", "").lower()
    found = [LOSSES[loss]] if loss in LOSSES else []
    if loss == "cispo":  # TRL bounds r by epsilon_high, 5 in its documentation, and ours by 1 + eps_high
        bound = _less_one(given.get("epsilon_high", "5"))
        return [*found, "gate=cispo" if bound is None else f"gate=cispo gate.eps_high={bound}"]
    if loss == "sapo":
        pos, neg = (given.get(name, usual) for name, usual in zip(_TEMPERATURES, ("1", "1.05"), strict=True))
        return [*found, f"gate=sigmoid tau.pos={pos} tau.neg={neg}"]
    if not _is_clipped(given) or beside.get("gate", "clip") not in _CLIPS:
        return found
    low, high, bound = (given.get(name) for name in ("epsilon", "epsilon_high", "delta"))
    sides = f"gate.eps_low={low or '0.2'} gate.eps_high={_or_low(high, low)}"
    return [*found, f"gate=dual_clip gate.c={bound} {sides}" if _is_set(bound) else f"gate=clip {sides}"]


def _batch(given: Mapping[str, str], beside: Mapping[str, str]) -> list[str]:
    """Give prompts of an update, and completions that run at once."""
    if not any(name in given for name in _BATCH):
        return []
    rows, steps, group = (_whole(given.get(name), usual) for name, usual in ((_BATCH[0], 8), (_BATCH[1], 1), (_G, 8)))
    micro = [f"batch.micro={rows}"] if _BATCH[0] in given else []
    return [f"batch.prompts={max(1, rows * steps * _whole(beside.get('devices'), 1) // group)}", *micro]


_G = "num_generations"


def _correction(given: Mapping[str, str]) -> list[str]:
    """Give the correction of vLLM's mismatch, which TRL has with vLLM where nothing is typed, and gatepo has not."""
    on, mode, cap = (given.get(name) for name in _CORRECTION)
    with_vllm = given.get("use_vllm", "").lower() == "true"
    if not with_vllm and on is None and mode is None and cap is None:
        return []
    if on is not None and on.lower() == "false":
        return ["correction=none"]
    level, _, way = (mode or "sequence_mask").partition("_")
    return [f"correction={way or 'mask'} correction.level={level} correction.cap={cap or '3'}"]


def _others(given: Mapping[str, str]) -> list[str]:
    found = []
    if "beta" in given:
        found.append("kl=none" if _is_zero(given["beta"]) else f"kl=fixed kl.coefficient={given['beta']}")
    if "max_grad_norm" in given:  # 0 clips nothing in transformers
        norm = given["max_grad_norm"]
        found.append(f"optimizer.max_grad_norm={'inf' if _is_zero(norm) else norm}")
    if "resume_from_checkpoint" in given and given["resume_from_checkpoint"].lower() not in ("false", "none"):
        folder = given["resume_from_checkpoint"]
        found.append(f"resume={'auto' if folder.lower() == 'true' else folder}")
    if "reward_funcs" in given:
        found += _rewards(given)
    if "report_to" in given:
        named = given["report_to"].strip("[]").replace(" ", "")
        found.append(f"tracker=[{named}]" if "," in named else f"tracker={named}")
    if "train_dataset" in given:
        value = given["train_dataset"]
        is_file = value.endswith((".jsonl", ".json", ".csv", ".parquet"))
        found.append(f"data={value}" if is_file or "/" not in value else f"data=hub:{value}")
        found.append("data.question=prompt")  # the field that TRL reads
    return found


def _rewards(given: Mapping[str, str]) -> list[str]:
    """Give one function in the place of ours, or several with ours switched off."""
    paths, weights = _paths(given["reward_funcs"]), _weights(given)
    if len(paths) == 1:
        return [f"reward._target_={paths[0]}"]
    names = [f"+reward.extra.{path.rpartition('.')[2]}" for path in paths]
    each = [f"{name}._target_={path}" for name, path in zip(names, paths, strict=True)]
    weighted = [f"{name}.weight={weight}" for name, weight in zip(names, weights, strict=False)]
    return [*each, *weighted, "reward.weights.answer=0 reward.weights.format=0"]


def _paths(value: str) -> list[str]:
    """Give reward functions as MODULE.NAME, those that TRL's script knows by name too."""
    named = [name for name in re.split(r"[\s,\[\]'\"()]+", value) if name]
    return [n if "." in n else f"trl.rewards.{n}" if n in _TRLS else f"{_MINE}.{n}" for n in named]


def _weights(given: Mapping[str, str]) -> list[str]:
    """Give the weights of several functions, if there is one for each."""
    found = re.findall(r"[\d.eE+-]+", given.get("reward_weights", ""))
    several = len(_paths(given.get("reward_funcs", ""))) > 1
    return found if several and len(found) == len(_paths(given["reward_funcs"])) else []


def _is_set(value: str | None) -> bool:
    return value is not None and value.lower() not in ("none", "null")


def _or_low(high: str | None, low: str | None) -> str:
    return high if high is not None and _is_set(high) else low or "0.2"


def _is_zero(value: str) -> bool:
    return re.fullmatch(r"0*\.?0*", value) is not None


def _less_one(value: str) -> str | None:
    """Give a bound of r as one of r - 1; None where it is no number above 1."""
    above = re.fullmatch(r"\d+(\.\d+)?", value) is not None and float(value) > 1
    return f"{float(value) - 1:g}" if above else None


def _whole(value: str | None, usual: int) -> int:
    return max(1, int(value)) if value is not None and value.isdecimal() else usual


def _safe(word: str) -> str:
    """Put a word in the quotes that a shell needs."""
    return word if re.fullmatch(r"[\w.=/:+@%-]+", word, re.ASCII) else shlex.quote(word)
