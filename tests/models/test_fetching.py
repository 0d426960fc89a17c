import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from fcdistill.errors import DownloadError, ModelError
from fcdistill.models import fetching
from fcdistill.models.loading import load_model, load_tokenizer
from fcdistill.records import ModelRef
from tests.tiny import tiny_model, tiny_tokenizer


def test_the_revision_follows_the_content(plain: Path) -> None:
    before = load_model(str(plain), dtype="float32").ref
    assert load_model(str(plain), dtype="float32").ref == before
    tiny_model("qwen2", 502, seed=1).save_pretrained(plain)
    assert load_model(str(plain), dtype="float32").ref.revision != before.revision


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets where the hub is; its cache is empty."""

    def place(endpoint: str, *, offline: bool = False) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)

    return place


def test_a_hub_that_refuses_connections_is_one_clear_error(hub: Callable[..., None]) -> None:
    hub("http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="'example/model' is no local directory and could not be fetched") as caught:
        load_tokenizer("example/model")
    assert "Connect" in caught.value.found and "local directory" in caught.value.fix


def test_a_hub_that_never_answers_costs_the_timeout(hub: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetching._HUB_TIMEOUT_S <= 10
    monkeypatch.setattr(fetching, "_HUB_TIMEOUT_S", 0.5)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(DownloadError, match="imeout"):
            load_model("example/model", dtype="float32")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [401, 404])
def test_a_name_that_the_hub_does_not_know_is_a_model_error(hub: Callable[..., None], status: int) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (the base class decides)
            self.send_response(status)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ModelError, match="no model 'smollm2' on the hub") as caught:
            load_model("smollm2", dtype="float32")
        server.shutdown()
    assert "smollm2-135m-instruct" in caught.value.fix


@pytest.mark.parametrize("offline", [True, False])
def test_a_snapshot_in_the_hubs_cache_needs_no_hub(hub: Callable[..., None], tmp_path: Path, offline: bool) -> None:
    hub("http://127.0.0.1:9", offline=offline)
    with pytest.raises(DownloadError):
        load_model("example/model", dtype="float32")
    snapshot = tmp_path / "hub" / "models--example--model" / "snapshots" / "0123abc"
    (snapshot.parent.parent / "refs").mkdir(parents=True)
    (snapshot.parent.parent / "refs" / "main").write_text("0123abc")
    tokenizer = tiny_tokenizer("qwen")
    tiny_model("qwen2", len(tokenizer)).save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    found = load_model("example/model", dtype="float32").ref
    assert found == ModelRef(model="example/model", revision="0123abc", params={"dtype": "float32"})
