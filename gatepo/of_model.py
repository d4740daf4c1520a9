"""What follows from the model that is chosen: its own settings, and what a learning rate does to one of its size.

The embedded model has settings of its own, far from those of the paper; they must not reach another model unseen. No
torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from gatepo import hub, tiny

if TYPE_CHECKING:
    from gatepo.schema import TrainConfig

QWEN25 = re.compile(r"Qwen/Qwen2\.5-\d+(\.\d+)?B(-Instruct)?")  # all in bfloat16, by the config.json of each on the hub
# Two learning rates that are known to train, each of AdamW, with the parameters of its model: experiments/README.md,
# and the paper's Table 2. Between them, and beyond, a power of the size.
KNOWN_RATES = ((0.9e6, 7e-4), (7.6e9, 1e-6))
FAR = 10  # times above that rate
_NO_SYSTEM = "the embedded model was made without a system prompt, and data.system gives it one; type data.system=null"


def register(prompt: Callable[[str], str]) -> None:
    """Offer ``${tiny_else:A,B}``, A with the embedded model and B with another, and what follows from the model itself.

    ``${own_dtype:}`` is its precision, and ``${own_system:NAME}`` the system prompt that its data bring: that of the
    name, or none for the embedded model, which was made without one.

    Args:
      prompt: gives the system prompt of a name.
    """
    OmegaConf.register_new_resolver("tiny_else", _tiny_else, replace=True)
    OmegaConf.register_new_resolver("own_dtype", _own_dtype, replace=True)

    def own_system(name: str, *, _root_: Any) -> str | None:
        return None if is_embedded(_path(_root_)) else prompt(name)

    OmegaConf.register_new_resolver("own_system", own_system, replace=True)


def is_embedded(path: str) -> bool:
    """Say whether a model is the embedded one, or of its shape: what a run made of it is trained further like it."""
    if path == "tiny":
        return True
    names = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    own, other = _config_file(tiny.locate("tiny")), _config_file(path)
    return all(own[name] == other.get(name) for name in names)


def dtype_of(path: str) -> str:
    """Say what a model computes in unless the user says otherwise: the embedded one in float32, others as stored.

    Raises:
      UserError: the hub does not give the model.
    """
    if is_embedded(path):
        return "float32"
    if QWEN25.fullmatch(path) and not Path(path).is_dir():
        return "bfloat16"
    found = _config_file(path) if Path(path).exists() else _config_on_hub(path)
    found = {**found, **(found.get("text_config") or {})}
    stored = found.get("dtype") or found.get("torch_dtype")
    return "bfloat16" if stored in ("bfloat16", "float16") else "float32"


def remark(config: TrainConfig) -> str | None:
    """Say with which settings another model than the embedded one is trained, or what that one has never seen."""
    if is_embedded(config.model.path):
        return None if config.data.system is None else _NO_SYSTEM
    lengths = f"{config.sampling.max_prompt_length} + {config.sampling.max_completion_length} tokens"
    rate, adapter = getattr(config.optimizer, "lr", None), config.model.adapter
    beside = (
        f" {adapter.label} stands about {adapter.RATE:g} times the learning rate of all weights."
        if adapter.label
        else ""
    )
    return (
        f"model.path={config.model.path} trains with optimizer.lr={rate}, "
        f"optimizer.beta1={getattr(config.optimizer, 'beta1', None)}, prompts and completions of up to {lengths}, "
        f"batch.micro={config.batch.micro}, model.dtype={config.model.dtype}: where you typed none, the paper's (Table "
        f"2), and the precision in which the model is stored.{beside}"
    )


def too_fast(config: TrainConfig, parameters: int) -> str | None:
    """Say that a learning rate is far above what a model of this size stands; None where it is not.

    >>> f"{usual_rate(494_000_000):.0e}"
    '7e-06'
    """
    rate = getattr(config.optimizer, "lr", None)
    usual = config.model.adapter.RATE * usual_rate(parameters)
    if not isinstance(rate, float) or rate <= FAR * usual:
        return None
    return (
        f"optimizer.lr={rate:g} is far above what a model of {parameters:,} parameters stands: about "
        f"{usual:.0e} goes well; optimizer=paper has the paper's"
    )


def usual_rate(parameters: int) -> float:
    """Give a learning rate that goes well with a model of so many parameters."""
    (small, high), (large, low) = KNOWN_RATES
    return high * (parameters / small) ** (math.log(low / high) / math.log(large / small))


def _tiny_else(own: Any, other: Any, *, _root_: Any) -> Any:
    return own if is_embedded(_path(_root_)) else other


def _own_dtype(*, _root_: Any) -> str:
    path = _path(_root_)
    return dtype_of(path) if path else "float32"


def _path(root: Any) -> str:
    """Give the model's path; nothing where it must still be given."""
    return "" if OmegaConf.is_missing(root.model, "path") else str(root.model.path)


def _config_file(folder: str) -> dict[str, Any]:
    """Read config.json; nothing where there is none that can be read: who loads the model says what is wrong."""
    try:
        found = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _config_on_hub(name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download  # slow to import
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    hub.require_model(name)
    try:
        return _config_file(str(Path(hf_hub_download(name, "config.json")).parent))
    except LocalEntryNotFoundError as error:
        raise hub.no_model(name, hub.ask("model", name).words) from error
    except EntryNotFoundError:
        return {}
