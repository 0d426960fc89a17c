"""A server on loopback that speaks OpenAI's API and misbehaves as told, in the test's own process."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What is sent back.

    `cut` bytes are announced and not sent; `drop` closes the connection without a word; between two bytes of the body
    lie `drip_s`.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int = 0
    drop: bool = False
    drip_s: float = 0.0


def question(body: dict[str, Any]) -> str:
    """The last message of a chat request."""
    text: str = body["messages"][-1]["content"]
    return text


def chat(content: str | None = None, *, finish_reason: str = "stop", **message: Any) -> Reply:
    """A sound answer of the chat API, of 10 prompt and 2 completion tokens."""
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return Reply(body=json.dumps({"choices": [choice], "usage": usage}).encode())


def failure(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's shape."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class _Http(ThreadingHTTPServer):
    """Takes a burst of connections: the few that the library's server lets wait are too few for a busy machine."""

    request_queue_size = 128


class FaultyServer:
    """What was asked, and how.

    Args:
        behaviour: gives the reply to a request's body and the number of earlier requests with the same question.
    """

    def __init__(self, behaviour: Callable[[dict[str, Any], int], Reply]) -> None:
        self.behaviour = behaviour
        self.bodies: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.keys: set[str | None] = set()
        self.times: list[float] = []
        self.most_at_once = 0
        self._asked: Counter[str] = Counter()
        self._under_way = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def num_asked(self, text: str) -> int:
        return self._asked[text]

    @contextmanager
    def running(self) -> Iterator["FaultyServer"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()

    def _reply(self, path: str, key: str | None, raw: bytes) -> Reply:
        body = json.loads(raw)
        asked = question(body) if "messages" in body else json.dumps(body["prompt"])
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.paths.add(path)
            self.keys.add(key)
            earlier = self._asked[asked]
            self._asked[asked] += 1
        reply = self.behaviour(body, earlier)
        time.sleep(reply.delay_s)
        with self._lock:
            self._under_way -= 1
        return reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                reply = server._reply(self.path, self.headers["authorization"], raw)
                self.close_connection = reply.drop or reply.cut > 0
                if reply.drop:
                    return
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(reply.body) + reply.cut))
                    self.end_headers()
                    for part in (bytes([byte]) for byte in reply.body) if reply.drip_s else (reply.body,):
                        self.wfile.write(part)
                        time.sleep(reply.drip_s)
                except OSError:  # the client has gone
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler
