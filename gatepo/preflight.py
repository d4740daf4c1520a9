"""What can be refused before torch and the libraries of the hub are imported, which takes seconds. No torch."""

from __future__ import annotations

from gatepo import hub, tiny
from gatepo.data.settings import Data
from gatepo.data.sources import Source, require_on_hub, require_readable


def require_reachable(model_path: str, data: Data) -> None:
    """Refuse a model or rows that neither the hub nor its cache has, and files that are missing or lack a field.

    Raises:
      UserError: which of them; of the hub whether it is offline, it is missing there, or private.
    """
    hub.require_model(tiny.locate(model_path))
    for part in ("sources", "evaluation"):
        for name, entry in getattr(data, part).items():
            if not isinstance(entry, Source):
                continue
            paths = data.paths(part, name)
            if entry.is_remote(paths):
                require_on_hub(name, entry)
            else:
                require_readable(name, entry, paths)
