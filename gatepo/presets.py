"""The YAML files of conf/, experiments/ and sweeps/, as Hydra finds them."""

from __future__ import annotations

import functools
import secrets
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from gatepo import config, of_model
from gatepo.errors import UserError
from gatepo.settings import options

_PACKAGE = Path(__file__).parent
CLAIMS = "claims.yaml"  # of a study: no experiment, though it lies beside one


def yaml_dir(name: str) -> Path:
    """Find the folder ``conf``, ``experiments`` or ``sweeps``: in an installed package, beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def register() -> None:
    """Offer the schemas, and each file of ``experiments/`` and ``sweeps/`` as ``+experiment=`` and ``+sweep=``."""
    config.register()
    of_model.register(prompt_text)
    cells = {"_target_": "hydra_plugins.gatepo.Cells", "file": "???"}
    ConfigStore.instance().store(group="hydra/sweeper", name="cells", node=cells)
    OmegaConf.register_new_resolver("first_of", lambda *values: next(v for v in values if v is not None), replace=True)
    OmegaConf.register_new_resolver("unique", unique, replace=True)
    OmegaConf.register_new_resolver("prompt", prompt_text, replace=True)
    for folder, group in (("experiments", "experiment"), ("sweeps", "sweep")):
        root = yaml_dir(folder)
        for file in sorted(root.rglob("*.yaml")):
            if file.name == CLAIMS:
                continue
            where = file.relative_to(root)
            ConfigStore.instance().store(
                group="/".join((group, *where.parent.parts)),
                name=where.stem,
                node=yaml.safe_load(file.read_text(encoding="utf-8")),
                package="_global_",
                provider=folder,
            )


@functools.cache
def unique() -> str:
    """Give this process's own end of a folder's name: others may be started in the same second."""
    return secrets.token_hex(3)


def prompt_text(name: str) -> str:
    """Read the system prompt ``conf/prompt/NAME.txt``, or that of a file with a dot or a slash in its name."""
    folder = yaml_dir("conf") / "prompt"
    own = bool({".", "/"} & set(name))
    try:
        return (Path(name) if own else folder / f"{name}.txt").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if own:
            raise UserError(f"data.system_file must be a text file, got {name} ({error}); give its path") from error
        known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
        raise UserError(
            f"data.system=${{prompt:NAME}} must name one of {known}, got {name}; or type the text"
        ) from error


def names(group: str) -> list[str]:
    """List what can be typed for a group: options, and the presets of conf/, experiments/ and sweeps/."""
    folder = {"experiment": "experiments", "sweep": "sweeps"}.get(group)
    root = yaml_dir(folder) if folder else yaml_dir("conf") / group
    files = [
        file.relative_to(root).with_suffix("").as_posix()
        for file in sorted(root.rglob("*.yaml"))
        if file.name != CLAIMS
    ]
    return [*options(group), *files]
