"""Without the hub: one line after at most five seconds that says which of offline, missing and private it is."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import REPO

from gatepo import tiny

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers every request alike, as the hub does."""

    status: ClassVar[int] = 404
    code: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        if self.code:
            self.send_header("X-Error-Code", self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def hub(status: int, code: str = "") -> Iterator[tuple[str, list[str]]]:
    answers = type("Answers", (Hub,), {"status": status, "code": code, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers.asked
        server.shutdown()


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


ASK = (
    "import sys, time; from gatepo import cli, hub; from gatepo.data.sources import Source, open_rows\n"
    "kind, name = sys.argv[1:]\n"
    "import huggingface_hub\n"
    "begun = time.monotonic()\n"
    "with cli.errors_as_one_line():\n"
    "    if kind == 'model': hub.require_model(name); from gatepo.model import load_tokenizer; load_tokenizer(name)\n"
    "    else: open_rows('mine', Source(hub=name))\n"
    "print('loaded')"
)


def ask(kind: str, name: str, endpoint: str, home: Path, **environment: str) -> tuple[float, str]:
    """Load it in a process of its own; returns its seconds, and all that it printed."""
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPO), "HF_HOME": str(home), "HF_ENDPOINT": endpoint}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ASK, kind, name],
        env=variables | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return time.monotonic() - begun, done.stderr + done.stdout


PREFIX = {
    "model": "model.path=no/such is no folder, and",
    "data": "data source mine: cannot load no/such from the hub:",
}
UNKNOWN = "has none of that name, or a private one; correct it, or log in (hf auth login) or set HF_TOKEN"


@pytest.mark.parametrize(
    ("kind", "status", "code", "token", "words"),
    [
        ("model", 404, "RepoNotFound", "", UNKNOWN),
        ("data", 401, "", "", UNKNOWN),
        ("model", 404, "RepoNotFound", "hf_mine", "has none of that name that your account may see; correct it"),
        ("model", 403, "GatedRepo", "", "gives it to some accounts only; ask for access on its page, then log in"),
        ("data", 403, "", "hf_mine", "refuses it to this account (HTTP 403); log in"),
        ("model", 503, "", "", "the hub is offline from here (HTTP 503)"),
    ],
)
def test_what_the_hub_answers_is_one_line_that_says_how_to_go_on(
    tmp_path: Path, kind: str, status: int, code: str, token: str, words: str
) -> None:
    with hub(status, code) as (endpoint, asked):
        _, said = ask(kind, "no/such", endpoint, tmp_path, **({"HF_TOKEN": token} if token else {}))
    assert said.count("\n") == 1, said
    assert said.startswith(f"gatepo: {PREFIX[kind]}")
    assert words in said
    assert len([path for path in asked if "/resolve/" in path]) == 1, asked


@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_hub_that_is_not_there_or_never_answers_is_offline_within_five_seconds(tmp_path: Path, kind: str) -> None:
    waits = []
    with silent() as never:
        for endpoint, variables in (("http://127.0.0.1:9", {}), (never, {}), (never, {"HF_HUB_OFFLINE": "1"})):
            seconds, said = ask(kind, "no/such", endpoint, tmp_path, **variables)
            assert said.count("\n") == 1, said
            assert "the hub is offline from here (" in said
            assert "HF_HOME" in said
            waits.append(seconds)
    assert waits[1] - min(waits) < 5, "beside what imports take"


@pytest.mark.parametrize("words", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["refused", "offline"])
def test_what_the_cache_holds_is_loaded_without_a_network(tmp_path: Path, words: dict[str, str]) -> None:
    repository = tmp_path / "hub" / "models--mine--tiny"
    shutil.copytree(tiny.locate("tiny"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    _, said = ask("model", "mine/tiny", "http://127.0.0.1:9", tmp_path, **words)
    remark = "" if words else "the hub is offline from here: mine/tiny was taken from its cache\n"
    assert said == f"{remark}loaded\n"


def test_the_command_says_it_before_torch_comes(tmp_path: Path) -> None:
    program = (
        "import runpy, sys\n"
        "try: runpy.run_module('gatepo.train', run_name='__main__', alter_sys=True)\n"
        "finally: print('torch came:', 'torch._C' in sys.modules, 'transformers' in sys.modules)"
    )
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPO), "HF_HOME": str(tmp_path)}
    with hub(404, "RepoNotFound") as (endpoint, _):
        done = subprocess.run(
            [sys.executable, "-c", program, "data=gsm8k", f"hydra.run.dir={tmp_path / 'run'}"],
            env={**variables, "HF_ENDPOINT": endpoint},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "gatepo: data source gsm8k: cannot load openai/gsm8k from the hub: the hub (http://127"
    )
    assert (done.stderr.count("\n"), done.stdout) == (1, "torch came: False False\n")
