"""Published weights: fetched once from a server that answers as the Hugging Face Hub does, or a clear line."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTENT = (ROOT / "tests/data/transformers/hf_dinov2/model.safetensors").read_bytes()
REPOSITORY = "facebook/dinov2-small"
FETCH = f"""
from thaw.backbones import hub
from thaw.core.errors import run
run(lambda: print(hub.fetch("{REPOSITORY}")))
"""


@pytest.fixture
def replica():
    """A function that starts a Hub with one repository on loopback, and returns its environment and its requests."""
    servers = []

    def start(status=200, error_code=None):
        requests = []

        class Hub(BaseHTTPRequestHandler):
            def answer(self, with_content):
                requests.append((self.command, self.path, self.headers.get("authorization")))
                found = self.path == f"/{REPOSITORY}/resolve/main/model.safetensors" and status == 200
                self.send_response(200 if found else status if status != 200 else 404)
                if error_code:
                    self.send_header("X-Error-Code", error_code)
                    self.send_header("X-Error-Message", "Access to this model is restricted")
                self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 39 + "1")
                self.send_header("Content-Length", str(len(CONTENT) if found else 0))
                self.end_headers()
                if with_content and found:
                    self.wfile.write(CONTENT)

            def do_HEAD(self):
                self.answer(with_content=False)

            def do_GET(self):
                self.answer(with_content=True)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}, requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(tmp_path, **environment):
    own = {
        name: value for name, value in os.environ.items() if not name.lower().startswith(("hf_", "http", "no_proxy"))
    }
    environment = own | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "src")} | environment
    return subprocess.run([sys.executable, "-c", FETCH], env=environment, capture_output=True, text=True, check=False)


def test_a_file_is_downloaded_once_and_then_found_without_the_hub(replica, tmp_path):
    environment, requests = replica()
    first = fetch(tmp_path, **environment)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert Path(first.stdout.strip()).read_bytes() == CONTENT
    assert [kind for kind, _, _ in requests].count("GET") == 1
    again = fetch(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout


def test_the_token_of_a_person_is_sent(replica, tmp_path):
    environment, requests = replica()
    fetch(tmp_path, **environment, HF_TOKEN="hf_abc")
    assert {token for _, _, token in requests} == {"Bearer hf_abc"}


def test_a_licence_that_nobody_accepted_is_named(replica, tmp_path):
    environment, _ = replica(status=403, error_code="GatedRepo")
    result = fetch(tmp_path, **environment)
    assert result.returncode == 1
    assert "accept it on the page of that repository, then set HF_TOKEN" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"HF_ENDPOINT": "hub.example.org"}, {"HF_TOKEN": "hf_é"}])
def test_a_wrong_setting_is_one_line(replica, tmp_path, wrong):
    environment, _ = replica()
    result = fetch(tmp_path, **environment | wrong)
    assert result.returncode == 1
    assert result.stderr.startswith("thaw: the weights of facebook/dinov2-small were not reached"), result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_internet_a_line_says_what_to_do(tmp_path):
    result = fetch(tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert result.stderr.startswith("thaw: the weights of facebook/dinov2-small were not reached")
    assert "download model.safetensors of facebook/dinov2-small elsewhere and set backbone.weights" in result.stderr
    assert result.stderr.count("\n") == 1
