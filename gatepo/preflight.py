"""What can be refused before torch and the libraries of the hub are imported, which takes seconds. No torch."""

from __future__ import annotations

from gatepo import hub, tiny
from gatepo.data.settings import Data
from gatepo.data.sources import Source, require_on_hub


def require_reachable(model_path: str, data: Data) -> None:
    """Refuse a model or rows that are to come from the hub, and that neither it nor its cache has.

    Raises:
      UserError: which of them, and whether the hub is offline, it is missing there, or private.
    """
    hub.require_model(tiny.locate(model_path))
    for part in ("sources", "evaluation"):
        for name, entry in getattr(data, part).items():
            if isinstance(entry, Source) and entry.is_remote(data.paths(part, name)):
                require_on_hub(name, entry)
