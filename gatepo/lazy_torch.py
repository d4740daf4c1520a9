"""torch, imported when something of it is first used: 1 to 3 s that a wrong word and ``--help`` need not wait for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def import_on_use() -> None:
    """Let ``import torch`` wait until torch is used; without effect where it is imported already.

    ``from torch import NAME`` and ``import torch.PART`` use it at once, so modules of options have neither. Called by
    commands alone, before they look at their words: a library does not decide that for its caller.
    """
    spec = importlib.util.find_spec("torch") if "torch" not in sys.modules else None
    if spec is None or spec.loader is None:
        return
    module = _OnUse("torch")
    module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
    module.__path__ = spec.submodule_search_locations or []
    sys.modules["torch"] = module
    sys.meta_path.insert(0, _PARTS)


class _OnUse(ModuleType):
    """A module that imports itself when an attribute is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        _import(self)
        return getattr(self, name)


def _import(module: ModuleType) -> None:
    sys.meta_path.remove(_PARTS)
    module.__class__ = ModuleType
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    try:
        module.__spec__.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise


class _Parts(MetaPathFinder):
    """``import torch.PART``, where that is the first use."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("torch."):
            return None
        _import(sys.modules["torch"])
        found = sys.modules.get(name)
        return None if found is None else ModuleSpec(name, _Imported(found))


class _Imported(Loader):
    """Hands over a part that came with torch itself, for it must not be imported a second time."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__
        module.__spec__ = None  # which importlib would prefer to this one, and import by it again

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


_PARTS = _Parts()
