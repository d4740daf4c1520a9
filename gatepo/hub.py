"""The hub, asked once and for a few seconds whether it has something: libraries ask again and again. No torch."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from functools import cache
from threading import Thread
from typing import Literal

log = logging.getLogger(__name__)
SECONDS = 4.0  # for an answer; with what this process does itself, a user waits for less than five
THERE, OFFLINE, MISSING, PRIVATE = "there", "offline", "missing", "private"
Kind = Literal["model", "dataset"]
_LOG_IN = "log in (hf auth login) or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub says of a name."""

    verdict: str
    words: str = ""  # why it cannot be had, and how to go on

    @property
    def is_there(self) -> bool:
        """Whether the hub would give it."""
        return self.verdict == THERE


@cache
def ask(kind: Kind, name: str, revision: str | None = None) -> Answer:
    """Ask the hub for the head of one file. Where it does not answer, its libraries take what their cache holds."""
    from huggingface_hub import constants  # slow to import, here and below

    if constants.is_offline_mode():
        return _offline("HF_HUB_OFFLINE is set")
    found: Future[Answer] = Future()
    Thread(target=lambda: found.set_result(_asked(kind, name, revision)), daemon=True).start()
    try:
        answer = found.result(SECONDS)
    except TooLate:
        answer = _offline(f"no answer from {constants.ENDPOINT} within {SECONDS:.0f} s")
    if answer.verdict == OFFLINE:
        log.warning("the hub cannot be reached: what its cache at %s holds is taken", constants.HF_HUB_CACHE)
        _go_offline()
    return answer


def _asked(kind: Kind, name: str, revision: str | None) -> Answer:
    from httpx import HTTPError
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import build_hf_headers, get_session, get_token, hf_raise_for_status

    file = "config.json" if kind == "model" else "README.md"
    what = f"the hub ({constants.ENDPOINT})"
    try:
        url = hf_hub_url(name, file, repo_type=kind, revision=revision)
        response = get_session().head(url, headers=build_hf_headers(), timeout=SECONDS, follow_redirects=False)
        if not response.is_redirect:  # to where the file lies, or to the name that a repository has now
            hf_raise_for_status(response)
    except EntryNotFoundError:  # of this file; what else is missing, who loads it says
        pass
    except HFValidationError:
        return Answer(MISSING, "it is no folder, and the hub has no such names; correct it")
    except GatedRepoError:
        return Answer(PRIVATE, f"{what} gives it to some accounts only; ask for access on its page, then {_LOG_IN}")
    except RevisionNotFoundError:
        return Answer(MISSING, f"{what} has it, without the revision {revision}; correct that")
    except RepositoryNotFoundError as error:
        if error.response.status_code == 404 and get_token():
            return Answer(MISSING, f"{what} has none of that name that your account may see; correct it")
        return Answer(MISSING, f"{what} has none of that name, or a private one; correct it, or {_LOG_IN}")
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            return Answer(PRIVATE, f"{what} refuses it to this account (HTTP {code}); {_LOG_IN}")
        return Answer(MISSING, f"{what} has none of that name; correct it") if code == 404 else _offline(f"HTTP {code}")
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        return _offline(f"{constants.ENDPOINT}: {reason or type(error).__name__}")
    return Answer(THERE)


def _offline(reason: str) -> Answer:
    from huggingface_hub import constants

    return Answer(
        OFFLINE,
        f"the hub is offline from here ({reason}), and its cache at {constants.HF_HUB_CACHE} has no whole copy; load "
        "it into the cache (HF_HOME) where there is a network, or give a local path",
    )


def _go_offline() -> None:
    """Keep the libraries of this process, and of those it starts, from asking again."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    datasets = sys.modules.get("datasets.config")
    if datasets is not None:
        datasets.HF_HUB_OFFLINE = datasets.HF_DATASETS_OFFLINE = True  # type: ignore[attr-defined]
