"""Weights from files that somebody else may have written: nothing in them runs, and a model gets all that it has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from gatepo.engine.adapted import learned
from gatepo.errors import UserError
from gatepo.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORCED, FORBIDDEN = (
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
)  # of torch, for every torch.load
_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was|whose)")


@contextmanager
def as_data(path: Path, *known: type) -> Iterator[None]:
    """Have pickles read as data: whoever reads one within makes tensors, plain values and ``known`` of it, and no more.

    Args:
      path: what is read, for the message.
      known: classes whose making does nothing but hold what it is given.
    Raises:
      UserError: a file names something else, which would run as it is read.
    """
    before = {name: os.environ.pop(name, None) for name in (FORCED, FORBIDDEN)}
    os.environ[FORCED] = "1"
    try:
        with torch.serialization.safe_globals(list(known)):
            yield
    except UnpicklingError as error:
        raise UserError(
            f"{path} must hold tensors and plain values, got {_named(error)}; choose another checkpoint"
        ) from error
    finally:
        del os.environ[FORCED]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Say in one line that what is read within cannot be read; nobody knows what a damaged file raises.

    Only the reading itself belongs within: a fault of this package's own must keep its traceback.

    Raises:
      UserError: it cannot.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} must be what a trainer wrote, got a damaged or foreign file ({type(error).__name__}: {reason}); "
            "choose another checkpoint"
        ) from error


def put(model: PreTrainedModel, weights: Mapping[str, Any], path: Path) -> None:
    """Give a model all of its weights, or those of its adapter; tied ones count as one.

    Raises:
      UserError: one is missing, has another shape, or is none of the model's.
    """
    wanted = learned(model)
    tied = dict(model.all_tied_weights_keys or {})
    needed = [name for name in wanted if name not in weights and tied.get(name) not in weights]
    strange = [str(name) for name in weights if name not in wanted]
    other = [
        name
        for name, weight in weights.items()
        if name in wanted and not (isinstance(weight, torch.Tensor) and weight.shape == wanted[name].shape)
    ]
    for names, fault in ((needed, "without"), (other, "with another shape of"), (strange, "with what it has not:")):
        if names:
            raise UserError(
                f"{path} must hold the {len(wanted)} weights of the model, got a checkpoint {fault} {names[0]}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}; it is damaged, or of another model.path"
            )
    model.load_state_dict(weights, strict=False)
    model.tie_weights()


def _named(error: UnpicklingError) -> str:
    """Say what would have run, as far as torch's message names it."""
    found = _GLOBAL.search(str(error))
    return f"{found[1]}, which is not run" if found else "a damaged or foreign file"
