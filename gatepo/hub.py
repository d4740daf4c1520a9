"""The hub, asked once and for a few seconds whether it has something: libraries ask again and again. No torch."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Literal

from gatepo.errors import UserError

log = logging.getLogger(__name__)
SECONDS = 4.0  # for an answer; with what this process does itself, a user waits for less than five
THERE, OFFLINE, MISSING, PRIVATE = "there", "offline", "missing", "private"
Kind = Literal["model", "dataset"]
_silence: list[str] = []  # why the hub counts as offline in this process, though the user has not said so
_LOG_IN = "log in (hf auth login) or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub says of a name."""

    verdict: str
    words: str = ""  # why it cannot be had, and how to go on
    reason: str = ""  # of an offline hub

    @property
    def is_there(self) -> bool:
        """Whether the hub would give it."""
        return self.verdict == THERE


class Unreachable(Exception):
    """The hub does not give it, and no copy is here; in words that say how to go on."""


@cache
def ask(kind: Kind, name: str, revision: str | None = None) -> Answer:
    """Ask the hub for the head of one file. Where it does not answer, nobody asks it again."""
    from huggingface_hub import constants  # slow to import, here and below
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return Answer(MISSING, "the hub has no such names; correct it")
    if constants.is_offline_mode():
        return _offline(_silence[0] if _silence else "HF_HUB_OFFLINE is set")
    for client in ("httpx", "httpx2"):  # a line for each request
        logging.getLogger(client).setLevel(logging.WARNING)
    found: Future[Answer] = Future()
    Thread(target=lambda: found.set_result(_asked(kind, name, revision)), daemon=True).start()
    try:
        answer = found.result(SECONDS)
    except TooLate:
        answer = _offline(f"no answer from {constants.ENDPOINT} within {SECONDS:.0f} s")
    if answer.verdict == OFFLINE:
        _silence.append(answer.reason)
        _go_offline()
    return answer


def require(kind: Kind, name: str, revision: str | None = None) -> Answer:
    """Ask, before its libraries do so again and again, and look whether there is a copy where it does not answer.

    Raises:
      Unreachable: nothing can be loaded.
    """
    answer = ask(kind, name, revision)
    if answer.is_there or (answer.verdict == OFFLINE and _has_a_copy(kind, name)):
        return answer
    raise Unreachable(answer.words)


def say_what_was_taken(kind: Kind, name: str) -> None:
    """Say, once it was loaded, that it came from the cache because the hub did not answer."""
    if _silence and ask(kind, name).verdict == OFFLINE:
        log.warning("the hub is offline from here: %s was taken from its cache", name)


def _has_a_copy(kind: Kind, name: str) -> bool:
    """Look for what the hub's library, or that of its data sets, keeps of it; it may be a part."""
    from huggingface_hub import constants

    kept = os.environ.get("HF_DATASETS_CACHE", os.path.join(constants.HF_HOME, "datasets"))
    folders = [Path(constants.HF_HUB_CACHE, f"{kind}s--{name.replace('/', '--')}")]
    if kind == "dataset":
        folders.append(Path(kept, name.replace("/", "___")))
    return any(folder.is_dir() for folder in folders)


def require_model(path: str) -> None:
    """As :func:`require`, of a model that is no folder.

    Raises:
      UserError: it cannot be loaded.
    """
    if not Path(path).exists():
        try:
            require("model", path)
        except Unreachable as error:
            raise no_model(path, str(error)) from error


def no_model(path: str, reason: str) -> UserError:
    """Say why there is no such model."""
    return UserError(f"model.path={path} is no folder, and {reason}")


def _asked(kind: Kind, name: str, revision: str | None) -> Answer:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import build_hf_headers, get_session, get_token, hf_raise_for_status

    file = "config.json" if kind == "model" else "README.md"
    what = f"the hub ({constants.ENDPOINT})"
    unknown = f"{what} has none of that name, or a private one; correct it, or {_LOG_IN}"
    try:
        url = hf_hub_url(name, file, repo_type=kind, revision=revision)
        response = get_session().head(url, headers=build_hf_headers(), timeout=SECONDS, follow_redirects=False)
        if not response.is_redirect:  # to where the file lies, or to the name that a repository has now
            hf_raise_for_status(response)
    except EntryNotFoundError:  # of this file; what else is missing, who loads it says
        pass
    except GatedRepoError:
        return Answer(PRIVATE, f"{what} gives it to some accounts only; ask for access on its page, then {_LOG_IN}")
    except RevisionNotFoundError:
        return Answer(MISSING, f"{what} has it, without the revision {revision}; correct that")
    except RepositoryNotFoundError as error:
        known = error.response.status_code == 404 and get_token()
        return Answer(
            MISSING, f"{what} has none of that name that your account may see; correct it" if known else unknown
        )
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code == 401 and not get_token():
            return Answer(MISSING, unknown)
        if code in (401, 403):
            return Answer(PRIVATE, f"{what} refuses it to this account (HTTP {code}); {_LOG_IN}")
        return Answer(MISSING, unknown) if code == 404 else _offline(f"HTTP {code}")
    except Exception as error:  # of its HTTP client, whichever that is: no connection, no name, no time left
        reason = " ".join(str(error).split())[:100]
        return _offline(f"{constants.ENDPOINT}: {reason or type(error).__name__}")
    return Answer(THERE)


def _offline(reason: str) -> Answer:
    from huggingface_hub import constants

    return Answer(
        OFFLINE,
        f"the hub is offline from here ({reason}), and its cache at {constants.HF_HUB_CACHE} has no whole copy; load "
        "it into the cache (HF_HOME) where there is a network, or give a local path",
        reason,
    )


def _go_offline() -> None:
    """Keep the libraries of this process, and of those it starts, from asking again."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    datasets = sys.modules.get("datasets.config")
    if datasets is not None:
        datasets.HF_HUB_OFFLINE = datasets.HF_DATASETS_OFFLINE = True  # type: ignore[attr-defined]
