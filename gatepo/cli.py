"""What every entry point shares: where the YAML lies, experiments and sweeps as groups, errors as one line."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatepo import config, slurm
from gatepo.errors import TrainingStopped, UserError
from gatepo.memory import is_out_of_memory, out_of_memory_line

USER_ERROR = 2  # the exit code of a process that has said in one line what was wrong
FORMULA_KEYS = ("gate.slope", "gate.value")
_PACKAGE = Path(__file__).parent
_FOLDER_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC)


def yaml_dir(name: str) -> Path:
    """The folder ``conf``, ``experiments`` or ``sweeps``: inside an installed package, beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def register() -> None:
    """Offer the schemas, and each file of ``experiments/`` and ``sweeps/`` as ``+experiment=`` and ``+sweep=``."""
    config.register()
    OmegaConf.register_new_resolver("first_of", lambda *values: next(v for v in values if v is not None), replace=True)
    OmegaConf.register_new_resolver("prompt", prompt_text, replace=True)
    for folder, group in (("experiments", "experiment"), ("sweeps", "sweep")):
        root = yaml_dir(folder)
        for file in sorted(root.rglob("*.yaml")):
            where = file.relative_to(root)
            ConfigStore.instance().store(
                group="/".join((group, *where.parent.parts)),
                name=where.stem,
                node=yaml.safe_load(file.read_text(encoding="utf-8")),
                package="_global_",
                provider=folder,
            )


def prompt_text(name: str) -> str:
    """The system prompt ``conf/prompt/NAME.txt``."""
    folder = yaml_dir("conf") / "prompt"
    try:
        return (folder / f"{name}.txt").read_text(encoding="utf-8").strip()
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
        raise UserError(
            f"data.system=${{prompt:NAME}} must name one of {known}, got {name}; or type the text"
        ) from error


def run(name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose ``conf/NAME.yaml`` with the command line and run ``task`` on it; exit 2 after a user's error."""
    register()
    sys.argv = [quoted(argument) for argument in sys.argv]
    # Hydra would print its errors over several lines, and end with advice that helps nobody here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if started_with_others() and os.environ.get("RANK", os.environ.get("SLURM_PROCID")) != "0":
        # The run's folder is the first rank's; the others leave nothing of Hydra's behind.
        sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none"]

    @functools.wraps(task)
    def guarded(composed: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # which goes on with the next job, and tells at the end
            return task(composed)
        with errors_as_one_line():
            return task(composed)

    with errors_as_one_line():
        hydra.main(version_base="1.3", config_path=str(yaml_dir("conf").resolve()), config_name=name)(guarded)()


def quoted(argument: str) -> str:
    """A gate's formula in the quotes that Hydra needs around parentheses, where the shell has taken the user's own."""
    key, equals, formula = argument.partition("=")
    if key not in FORMULA_KEYS or not equals or formula[:1] in ("", "'", '"') or formula == "null":
        return argument
    return f"{key}='{formula.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"


def started_with_others() -> bool:
    """Whether torchrun or SLURM started this process as one of several."""
    return "RANK" in os.environ or slurm.tasks(os.environ) > 1


def tell(line: str) -> None:
    """Say an error to the user."""
    print(f"gatepo: {line}", file=sys.stderr, flush=True)


class errors_as_one_line:
    """Turn what a user can mend into one line for ``say`` and exit code 2; anything else keeps its traceback."""

    def __init__(self, say: Callable[[str], None] = tell) -> None:
        self._say = say

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        line = None if error is None else one_line(error)
        if line is not None:
            self._say(line)
            sys.exit(USER_ERROR)


def one_line(error: BaseException) -> str | None:
    """The error as one line, or None where it is not a user's to mend."""
    if isinstance(error, UserError | TrainingStopped):
        return str(error)
    if is_out_of_memory(error):
        return out_of_memory_line(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        texts = [" ".join(str(e).split()) for e in ((error, cause) if cause is not error else (error,))]
        return "; ".join(dict.fromkeys(text for text in texts if text)) + "; see --help for groups and keys"
    if isinstance(error, ValueError) and _raised_in_hydra(error):  # a group's choice that is not a name, say
        return f"{' '.join(str(error).split())}, in {' '.join(sys.argv[1:])}; see --help for groups and keys"
    if isinstance(error, OSError) and (error.errno in _FOLDER_ERRORS or _making_a_folder(error)):
        return f"cannot write {error.filename} ({error.strerror}); set the run's folder with hydra.run.dir=FOLDER"
    return None


def _making_a_folder(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name in ("mkdir", "makedirs")


def _raised_in_hydra(error: BaseException) -> bool:
    """Whether Hydra itself raised the error, and not code that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("hydra.")
