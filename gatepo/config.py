"""From Hydra's config to validated dataclasses, and a run's own config back. No torch."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from gatepo.errors import UserError
from gatepo.schema import SCHEMAS, EvaluationConfig, GateConfig, GatesConfig, ProbeConfig, TrainConfig
from gatepo.validation import validate, validate_evaluation, validate_gates, validate_probe


def register() -> None:
    """Offer the schemas to Hydra, as ``schema/GROUP/plain`` and ``schema/GROUP/OPTION``; YAML files name theirs."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")
    store.store(group="schema", name="probe", node=ProbeConfig, package="_global_")
    store.store(group="schema", name="evaluation", node=EvaluationConfig, package="_global_")
    store.store(group="schema", name="gates", node=GatesConfig, package="_global_")
    plain = get_type_hints(TrainConfig)
    for group, options in SCHEMAS.items():
        for name, node in {"plain": plain[group], **options}.items():
            store.store(group=f"schema/{group}", name=name, node=node)


def typed(config: DictConfig) -> TrainConfig:
    """The composed config as validated dataclasses; DictConfig stops here.

    Raises:
      UserError: a value breaks its rule.
    """
    result = OmegaConf.to_object(config)
    assert isinstance(result, TrainConfig), f"the root config lost its schema: {type(result)}"
    _require_known(result)
    result = replace(result, gate=_gate(result.gate))
    validate(result)
    return result


def typed_probe(config: DictConfig) -> ProbeConfig:
    """As :func:`typed`, for ``gatepo.probe``."""
    result = OmegaConf.to_object(config)
    assert isinstance(result, ProbeConfig), f"the root config lost its schema: {type(result)}"
    _require_known(result)
    validate_probe(result)
    return result


def typed_evaluation(config: DictConfig) -> EvaluationConfig:
    """As :func:`typed`, for ``gatepo.evaluate``."""
    result = OmegaConf.to_object(config)
    assert isinstance(result, EvaluationConfig), f"the root config lost its schema: {type(result)}"
    _require_known(result)
    validate_evaluation(result)
    return result


def typed_gates(config: DictConfig) -> GatesConfig:
    """As :func:`typed`, for ``python -m gatepo.gates``."""
    result = OmegaConf.to_object(config)
    assert isinstance(result, GatesConfig), f"the root config lost its schema: {type(result)}"
    _require_known(result)
    result = replace(result, gate=_gate(result.gate))
    validate_gates(result)
    return result


def _require_known(settings: Any, prefix: str = "") -> None:
    """``+KEY=VALUE`` reaches a config past its schema, and would be without effect.

    Raises:
      UserError: a key that no schema has.
    """
    known = {field.name for field in fields(settings)}
    for name, value in vars(settings).items():
        if name not in known:
            raise UserError(
                f"{prefix}{name} must be a setting, got {value} for one that does not exist here; see --help and "
                "gatepo/schema.py"
            )
        inner = value if isinstance(value, dict) else {"": value}
        for key, item in inner.items():
            if is_dataclass(item):
                _require_known(item, f"{prefix}{name}.{key}." if key else f"{prefix}{name}.")


def _gate(gate: GateConfig) -> GateConfig:
    """A class in the place of a family bears its own name, and none of the family's settings."""
    if gate._target_ is None:
        return gate
    return GateConfig(name=gate._target_, _target_=gate._target_, arguments=gate.arguments)


def plain(config: TrainConfig) -> dict[str, Any]:
    """The config as nested dicts, as :func:`read` reads it back."""
    return asdict(config)


def read(path: Path) -> TrainConfig:
    """The validated config of a run's ``config.yaml``."""
    raw = OmegaConf.load(path)
    assert isinstance(raw, DictConfig)
    schema = OmegaConf.structured(TrainConfig)
    for group, options in SCHEMAS.items():
        if raw[group].name in options:
            schema[group] = options[raw[group].name]
    merged = OmegaConf.merge(schema, raw)
    assert isinstance(merged, DictConfig)
    return typed(merged)
