"""The sizes of a causal language model, without its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gatepo import hub, tiny
from gatepo.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class UnknownFamily(UserError):
    """The model is there, and of a family that the arithmetic does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A dense decoder with RMS norms, grouped queries, a gated MLP and rotary positions, such as Qwen2's."""

    hidden: int
    layers: int
    heads: int  # of the queries
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int  # rows of the embedding, padding included
    tied: bool  # whether the head is the embedding
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False  # RMS norms of queries and keys, over head_dim
    looks_back: bool = True  # every layer attends to all that comes before a token

    @property
    def query(self) -> int:
        """Width of the queries."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def body_matrices(self) -> int:
        """Parameters that every token of the body is multiplied with."""
        attention = self.hidden * (2 * self.query + 2 * self.key)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear maps of a layer, by the names that they have in these families."""
        H, Q, K, I = self.hidden, self.query, self.key, self.intermediate  # noqa: E741
        attention = {"q_proj": (H, Q), "k_proj": (H, K), "v_proj": (H, K), "o_proj": (Q, H)}
        return attention | {"gate_proj": (H, I), "up_proj": (H, I), "down_proj": (I, H)}

    @property
    def head(self) -> int:
        """Parameters of the map from hidden states to logits."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Count all parameters; a tied head counts once."""
        biases = self.qkv_bias * (self.query + 2 * self.key) + self.output_bias * self.hidden
        biases += self.mlp_bias * (2 * self.intermediate + self.hidden)
        norms = 2 * self.hidden + self.head_norms * 2 * self.head_dim
        embeddings = self.head if self.tied else 2 * self.head
        return self.body_matrices + self.layers * (biases + norms) + self.hidden + embeddings


def _qwen2(size: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int, tied: bool) -> ModelShape:
    return ModelShape(
        hidden=size,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size // heads,
        intermediate=mlp,
        vocabulary=vocabulary,
        tied=tied,
        qkv_bias=True,
    )


# config.json of Qwen/Qwen2.5-*-Instruct on the hub; the base models have the same shapes
_QWEN25 = {
    "0.5B": _qwen2(896, 24, 14, 2, 4864, 151936, True),
    "1.5B": _qwen2(1536, 28, 12, 2, 8960, 151936, True),
    "3B": _qwen2(2048, 36, 16, 2, 11008, 151936, True),
    "7B": _qwen2(3584, 28, 28, 4, 18944, 152064, False),
}
KNOWN = {f"Qwen/Qwen2.5-{size}{kind}": shape for size, shape in _QWEN25.items() for kind in ("", "-Instruct")}

# model_type -> what it has beyond the matrices, as transformers' modelling code builds it
_FAMILIES: dict[str, Callable[[PreTrainedConfig], dict[str, bool]]] = {
    "qwen2": lambda c: {"qkv_bias": True},
    "qwen3": lambda c: {"qkv_bias": c.attention_bias, "output_bias": c.attention_bias, "head_norms": True},
    "llama": lambda c: {"qkv_bias": c.attention_bias, "output_bias": c.attention_bias, "mlp_bias": c.mlp_bias},
    "mistral": lambda c: {},
}


def model_shape(path: str) -> ModelShape:
    """Give the shape of the model at ``path`` (a folder, a hub name, or ``tiny``); Qwen2.5's are known without the hub.

    Raises:
      UserError: there is no such model.
      UnknownFamily: it is of a family that the arithmetic does not know.
    """
    if path in KNOWN and not Path(path).is_dir():
        return KNOWN[path]
    written = _whole_config(tiny.locate(path))
    if written is not None:
        return from_config(path, written)
    from transformers import AutoConfig  # slow to import, and not needed for a known name

    try:
        hub.require_model(tiny.locate(path))
        config = AutoConfig.from_pretrained(tiny.locate(path), trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # of a folder that somebody else made, anything may be wrong
        if not Path(tiny.locate(path)).exists() and not (answer := hub.ask("model", path)).is_there:
            raise hub.no_model(path, answer.words) from error
        reason = " ".join(str(error).split())[:200]
        what = "has no model that transformers knows" if Path(path).is_dir() else "is neither a folder nor on the hub"
        raise UserError(
            f"model.path={path} {what}; give a folder with config.json, a name of the hub, or "
            f"Qwen/Qwen2.5-SIZE with or without -Instruct, SIZE one of {', '.join(_QWEN25)} ({reason})"
        ) from error
    return from_config(path, config)


def _whole_config(folder: str) -> Any:
    """Read a config.json that leaves nothing to the defaults of its family; None for any other. No transformers."""
    try:
        found = SimpleNamespace(**json.loads(Path(folder, "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not all(hasattr(found, name) for name in _NEEDED) or found.model_type not in ("qwen2", "mistral"):
        return None
    found.get_text_config = lambda: found
    return found


_NEEDED = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "vocab_size", "tie_word_embeddings"),
)


def from_config(path: str, config: PreTrainedConfig) -> ModelShape:
    """Give the shape that a transformers configuration describes."""
    from gatepo.engine.shared_prompts import looks_back  # torch, which a known name needs not

    c = config.get_text_config()
    if c.model_type not in _FAMILIES:
        raise UnknownFamily(
            f"model.path={path}: gatepo.plan knows the families {', '.join(_FAMILIES)}, got {c.model_type}; "
            "plan with a model of like size among these"
        )
    return ModelShape(
        hidden=c.hidden_size,
        layers=c.num_hidden_layers,
        heads=c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
        intermediate=c.intermediate_size,
        vocabulary=c.vocab_size,
        tied=c.tie_word_embeddings,
        looks_back=looks_back(c),
        **_FAMILIES[c.model_type](c),
    )
