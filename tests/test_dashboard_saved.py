"""The dashboard is saved where there is a connection: here to a server of this test, which answers as W&B's does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command import gatepo

VIEWER = {"id": "VXNlcjox", "username": "me", "entity": "me", "email": "", "flags": "{}", "teams": {"edges": []}}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict]]]:
    """Its address, and the variables of what it was asked to save."""
    saved: list[dict] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            data: dict = {"viewer": VIEWER, "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}
            if "upsertView" in asked.get("query", ""):
                saved.append(asked["variables"])
                data = {"upsertView": {"view": {"id": "Vmlldzox", "name": asked["variables"]["name"]}}}
            answer = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", saved
    listening.shutdown()
    listening.server_close()


def test_with_a_connection_the_dashboard_is_saved_and_its_address_printed(
    server: tuple[str, list[dict]], tmp_path: Path
) -> None:
    address, saved = server
    key = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path)}
    written = gatepo("dashboard", "--project", "mine", "--out", "dashboard.json", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    done = gatepo("dashboard", "dashboard.json", cwd=tmp_path, **key)  # the one that was written before
    assert done.returncode == 0, done.stderr
    (view,) = saved
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "mine", "Entropy and EUR: mine")
    assert f"saved to {address}/me/mine?nw={view['name'].removeprefix('nw-').removesuffix('-v')}" in done.stdout
    sent, held = json.loads(view["spec"]), json.loads((tmp_path / "dashboard.json").read_text())["spec"]
    assert sent["section"]["panelBankConfig"] == held["section"]["panelBankConfig"]
