"""TRL's settings in the words of this program, with the values that were typed: the answer to a command that has them.

Read in ``trl/trainer/grpo_config.py`` and ``grpo_trainer.py`` of TRL 1.16; docs/from-trl.md has them as a table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

CARRIED = {
    **{"learning_rate": "optimizer.lr", "warmup_steps": "optimizer.warmup", "max_steps": "updates"},
    **{"max_grad_norm": "optimizer.max_grad_norm", "weight_decay": "optimizer.weight_decay"},
    **{"num_iterations": "batch.iterations", "num_generations": "batch.num_generations"},
    **{"max_prompt_length": "sampling.max_prompt_length", "max_completion_length": "sampling.max_completion_length"},
    **{"temperature": "sampling.temperature", "save_steps": "checkpoint.every", "output_dir": "hydra.run.dir"},
    **{"resume_from_checkpoint": "resume", "model_name_or_path": "model.path"},
    **{"vllm_gpu_memory_utilization": "rollout=vllm rollout.memory"},
    "vllm_tensor_parallel_size": "rollout=vllm rollout.tensor_parallel_size",
}
"""Names whose value is typed behind ours as it is."""
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
}
"""Names whose values, in small letters, stand for words of ours."""
LOSSES = {
    **{"grpo": "aggregation=sequence_mean", "dr_grpo": "aggregation=constant", "luspo": "aggregation=sequence_sum"},
    **{"dapo": "aggregation=token_mean", "bnpo": "aggregation=token_mean", "sapo": "aggregation=sequence_mean"},
    **{"vespo": "+method=vespo", "cispo": "aggregation=token_mean"},
}  # by loss_type, without the gate
_GATES = ("loss_type", "epsilon", "epsilon_high", "delta", "sapo_temperature_pos", "sapo_temperature_neg")
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
}
"""Names that have no word of ours, and why."""
NAMES = {*CARRIED, *CHOSEN, *ABSENT, *_GATES, *_BATCH, *_CORRECTION, "beta", "reward_funcs", "report_to"} | {
    "train_dataset"
}


def answer(given: Mapping[str, str]) -> str:
    """Say what to type for settings of TRL's, by name, with the values that were typed."""
    words, said = [], []
    for name, value in given.items():
        low = value.lower()
        if name in CARRIED:
            words.append(f"{CARRIED[name]}={value}")
        elif name in CHOSEN and low in CHOSEN[name]:
            words.append(CHOSEN[name][low])
        elif name in CHOSEN:
            said.append(f"{name}={value} has no like here")
        elif name in ABSENT:
            said.append(f"{name}: {ABSENT[name]}")
    words += [*_gate(given), *_batch(given), *_correction(given), *_others(given)]
    if given.get("loss_type") == "bnpo":
        said.append("loss_type=bnpo is not here, token_mean is the nearest")
    if given.get("scale_rewards", "").lower() == "batch":
        said.append("scale_rewards=batch is not here, reinforce_pp_baseline is the nearest")
    if given.get("use_vllm", "").lower() == "true" and not any(name in given for name in _CORRECTION):
        said.append("TRL has correction=mask correction.level=sequence correction.cap=3 with vLLM")
    if any(name in given for name in _BATCH):
        said.append("batch.prompts counts over all devices, here for one")
    each = dict.fromkeys(" ".join(words).split(" ")) if words else {}
    typed = f"type {' '.join(_safe(word) for word in each)}" if each else "leave them out"
    return "; ".join([typed, *said])


def _gate(given: Mapping[str, str]) -> list[str]:
    """Give the gate and the aggregation: several names of TRL's make one gate."""
    loss = given.get("loss_type", "").lower()
    found = [LOSSES.get(loss, "aggregation=token_mean")] if loss else []
    low, high, bound = (given.get(name) for name in ("epsilon", "epsilon_high", "delta"))
    if loss == "cispo":  # TRL bounds r by epsilon_high, 5 in its documentation, and ours by 1 + eps_high
        return [*found, f"gate=cispo gate.eps_high={_less_one(high or '5')}"]
    if loss == "sapo":
        pos, neg = (given.get(f"sapo_temperature_{side}", usual) for side, usual in (("pos", "1"), ("neg", "1.05")))
        return [*found, f"gate=sigmoid tau.pos={pos} tau.neg={neg}"]
    if loss == "vespo" or not (low or high or bound):
        return found
    sides = f"gate.eps_low={low or '0.2'} gate.eps_high={_or_low(high, low)}"
    return [*found, f"gate=dual_clip gate.c={bound} {sides}" if _is_set(bound) else f"gate=clip {sides}"]


def _batch(given: Mapping[str, str]) -> list[str]:
    """Give prompts of an update, and completions that run at once."""
    if not any(name in given for name in _BATCH):
        return []
    rows, steps, group = (_whole(given.get(name), usual) for name, usual in ((_BATCH[0], 8), (_BATCH[1], 1), (_G, 8)))
    micro = [f"batch.micro={rows}"] if _BATCH[0] in given else []
    return [f"batch.prompts={max(1, rows * steps // group)}", *micro]


_G = "num_generations"


def _correction(given: Mapping[str, str]) -> list[str]:
    """Give the correction of vLLM's mismatch, which TRL has by default and gatepo has not."""
    on, mode, cap = (given.get(name) for name in _CORRECTION)
    if on is None and mode is None and cap is None:
        return []
    if on is not None and on.lower() == "false":
        return ["correction=none"]
    level, _, way = (mode or "sequence_mask").partition("_")
    return [f"correction={way or 'mask'} correction.level={level} correction.cap={cap or '3'}"]


def _others(given: Mapping[str, str]) -> list[str]:
    found = []
    if "beta" in given:
        off = re.fullmatch(r"0*\.?0*", given["beta"]) is not None
        found.append("kl=none" if off else f"kl=fixed kl.coefficient={given['beta']}")
    if "reward_funcs" in given:
        found += _rewards(given["reward_funcs"])
    if "report_to" in given:
        named = given["report_to"].strip("[]").replace(" ", "")
        found.append(f"tracker=[{named}]" if "," in named else f"tracker={named}")
    if "train_dataset" in given:
        value = given["train_dataset"]
        is_file = value.endswith((".jsonl", ".json", ".csv", ".parquet"))
        found.append(f"data={value}" if is_file or "/" not in value else f"data=hub:{value}")
    return found


def _rewards(value: str) -> list[str]:
    """Give one function in the place of ours, or several with ours switched off."""
    paths = [path if "." in path else f"my_rewards.{path}" for path in value.strip("[]").replace(" ", "").split(",")]
    if len(paths) == 1:
        return [f"reward._target_={paths[0]}"]
    extra = [f"+reward.extra.{path.rpartition('.')[2]}._target_={path}" for path in paths]
    return [*extra, "reward.weights.answer=0 reward.weights.format=0"]


def _is_set(value: str | None) -> bool:
    return value is not None and value.lower() not in ("none", "null")


def _or_low(high: str | None, low: str | None) -> str:
    return high if high is not None and _is_set(high) else low or "0.2"


def _less_one(value: str) -> str:
    return f"{float(value) - 1:g}" if re.fullmatch(r"\d+(\.\d+)?", value) else value


def _whole(value: str | None, usual: int) -> int:
    return max(1, int(value)) if value is not None and value.isdecimal() else usual


def _safe(word: str) -> str:
    """Put a word in the quotes that a shell needs."""
    return word if re.fullmatch(r"[\w.=/:+@%-]+", word, re.ASCII) else shlex.quote(word)
