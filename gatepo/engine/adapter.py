"""What of a model learns: all of its weights, or an adapter beside them. The only file that imports peft.

An adapter is put into the model in place (:mod:`gatepo.engine.adapted`): it keeps its class, and who computes with it
needs to know nothing. Samplers, exports and evaluations get the whole weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from gatepo.engine import adapted
from gatepo.errors import UserError
from gatepo.model import body_and_head
from gatepo.settings import DECAY, POSITIVE, Rule, at_least, option, setting

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from gatepo.engine.base import EngineOption

LINEARS = "all-linear"
WEIGHTS = "adapter_model.safetensors"  # peft's name
PREFIX = "base_model.model."  # before the names of weights in peft's files


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of a model learns."""

    parameters: int
    rows: int  # of all A of a layer: numbers that each token leaves there for the backward pass


class AdapterOption:
    """What is chosen by ``model.adapter=NAME``.

    One from outside puts layers such as peft's LoRA has into the model, and freezes all else.
    """

    RATE: ClassVar[float] = 1.0
    """Learning rates that go well are so many times those of all weights."""

    @property
    def label(self) -> str | None:
        """Describe the adapter, for plans and model cards; None where there is none."""
        return type(self).__name__

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Put the adapter into the model, and give that back; the first weights follow from ``seed`` alone."""
        raise NotImplementedError

    def size(self, linears: Mapping[str, tuple[int, int]], layers: int) -> Size | None:
        """Say how much learns; None: all weights.

        Args:
          linears: inputs and outputs of the linear maps of a layer, by name.
          layers: how many there are.
        """
        raise NotImplementedError

    def write(self, weights: Iterator[tuple[str, Tensor]], base: str, folder: Path | None) -> None:
        """Write the adapter on its own, for the model at ``base``; with no folder only go through the weights."""
        raise NotImplementedError

    def read_checkpoint(self, model: PreTrainedModel, engine: EngineOption, path: Path) -> None:
        """Make the model at its start the one that ``engine`` saved at ``path``; an adapter is in it then."""
        self.attach(model, 0)
        engine.read_weights(model, path)


@option("model/adapter", "none")
class NoAdapter(AdapterOption):
    """All weights learn."""

    @property
    def label(self) -> str | None:
        """See :class:`AdapterOption`."""
        return None

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """See :class:`AdapterOption`."""
        return model

    def size(self, linears: Mapping[str, tuple[int, int]], layers: int) -> Size | None:
        """See :class:`AdapterOption`."""
        return None

    def write(self, weights: Iterator[tuple[str, Tensor]], base: str, folder: Path | None) -> None:
        """See :class:`AdapterOption`."""


@option("model/adapter", "lora")
class Lora(AdapterOption):
    """LoRA by peft: W + scale B A, of which B and A learn (Hu et al. 2021, arXiv:2106.09685)."""

    RATE: ClassVar[float] = 10.0  # "LoRA Without Regret", Thinking Machines Lab 2025, as TRL's documentation sums it up

    rank: int = setting("Rows of A, columns of B.", default=16, rule=at_least(1))
    alpha: float = setting("The scale is alpha / rank.", default=32.0, rule=POSITIVE)
    dropout: float = setting("So much of the input of A is dropped while learning.", default=0.0, rule=DECAY)
    target_modules: list[str] = setting(
        "Names of the linear maps that get one; all-linear: all but the head.",
        default_factory=lambda: [LINEARS],
        rule=Rule("must name one at least, all-linear alone", lambda v: bool(v) and (LINEARS not in v or len(v) == 1)),
        remedy="leave it out, or type e.g. 'model.adapter.target_modules=[q_proj,v_proj]'",
    )
    rslora: bool = setting("The scale is alpha / sqrt(rank) (arXiv:2312.03732).", default=False)

    @property
    def label(self) -> str | None:
        """See :class:`AdapterOption`."""
        return f"LoRA of rank {self.rank}, alpha {self.alpha:g}, on {', '.join(self.target_modules)}"

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """See :class:`AdapterOption`.

        Raises:
          UserError: peft is not installed, or the model has no such linear maps.
        """
        peft = _import_peft()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # A is drawn on the CPU, and the same on every rank
            try:
                peft.inject_adapter_in_model(self._config(peft), model, adapted.NAME)
            except ValueError as error:
                raise self._no_target(model, str(error)) from error
        body, head = body_and_head(model)
        inside = set(body.modules())
        for name, layer in adapted.layers(model).items():
            if layer not in inside or type(layer.base_layer) is not torch.nn.Linear or head is layer:
                raise self._no_target(model, f"{name} is no linear map of a layer")
            layer.lora_dropout[adapted.NAME].seed = seed
            layer.eval()  # as all of the model
            for parameter in (*layer.lora_A.parameters(), *layer.lora_B.parameters()):
                parameter.data = parameter.data.float()
        return model

    def size(self, linears: Mapping[str, tuple[int, int]], layers: int) -> Size | None:
        """See :class:`AdapterOption`."""
        chosen = linears if self.target_modules == [LINEARS] else [n for n in linears if n in self.target_modules]
        parameters = layers * sum(self.rank * sum(linears[name]) for name in chosen)
        return Size(parameters=parameters, rows=self.rank * len(chosen))

    def write(self, weights: Iterator[tuple[str, Tensor]], base: str, folder: Path | None) -> None:
        """See :class:`AdapterOption`: in peft's format."""
        from safetensors.torch import save_file

        held = {}
        for name, tensor in weights:
            if folder is not None:
                held[f"{PREFIX}{name.replace(f'.{adapted.NAME}.', '.')}"] = tensor.to("cpu", copy=True).contiguous()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            config = self._config(_import_peft(), base_model_name_or_path=base, inference_mode=True)
            config.save_pretrained(str(folder))
            save_file(held, folder / WEIGHTS, metadata={"format": "pt"})

    def _config(self, peft: Any, **others: Any) -> Any:
        return peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=LINEARS if self.target_modules == [LINEARS] else list(self.target_modules),
            use_rslora=self.rslora,
            **others,
        )

    def _no_target(self, model: PreTrainedModel, reason: str) -> UserError:
        body = body_and_head(model)[0]
        known = {n.rpartition(".")[2] for n, m in body.named_modules() if isinstance(m, torch.nn.Linear)}
        return UserError(
            f"model.adapter.target_modules must name linear maps of the model's layers ({', '.join(sorted(known))}), "
            f"got {', '.join(self.target_modules)} ({' '.join(reason.split())[:120]}); leave it out for all of them"
        )


def _import_peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise UserError(
            "model.adapter=lora needs peft, which is not installed: pip install '.[lora]' in a clone of gatepo"
        ) from error
    return peft
