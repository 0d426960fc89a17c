"""Memory of generation: the whole of `generate` with a teacher behind a server, for ever more requests.

    python evals/speed/generate_memory.py
    python evals/speed/generate_memory.py --json

A server in this process answers at once, so that nothing but the pipeline is measured. Every generation runs in a
process of its own; its peak is the high-water mark of resident memory (Linux: VmHWM). README.md beside this file says
what it is made of.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from generation_memory_side import write_seeds
from processes import last_line, say, start

from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError

__all__ = ["figures", "main"]

_NUM_REQUESTS = (500, 2_000, 10_000)
_WRONG_EACH = 10
"""Of so many requests one never gets a right answer: it is tried again, and ends as a reject."""


def main(arguments: Sequence[str]) -> int:
    """Measure and print the figures, with --json the report as the last line. Raises `FcdistillError`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-requests", type=int, nargs="+", default=list(_NUM_REQUESTS), help="one run for each")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON, the last one")
    given = parser.parse_args(arguments)
    sizes = sorted(set(given.num_requests))
    if len(sizes) < 2 or sizes[0] < 1:
        raise ConfigError(
            f"--num-requests is {' '.join(map(str, given.num_requests))}",
            required="two different numbers at least, none below 1",
            fix="leave the flag out, or name several numbers of requests",
        )
    with _server() as base_url:
        report = figures([_run(base_url, size) for size in sizes])
    _print(report, sys.stderr if given.json else sys.stdout)
    if given.json:
        print(json.dumps(report))
    return 0


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report: all runs, and by how much the peak grows with each further request."""
    first, last = runs[0], runs[-1]
    further = last["num_requests"] - first["num_requests"]
    return {
        "benchmark": "generate_memory",
        "runs": list(runs),
        "bytes_per_request": round((last["peak_bytes"] - first["peak_bytes"]) / further),
        "outcome_bytes_on_disk": round(last["journal_bytes"] / last["num_outcomes"]),
    }


def _run(base_url: str, num_requests: int) -> dict[str, Any]:
    say(f"{num_requests} requests")
    with tempfile.TemporaryDirectory(prefix="fcdistill-memory-") as name:
        write_seeds(Path(name), num_requests)
        done = start(sys.executable, "generation_memory_side.py", base_url, name, num_threads=1)
    if done.returncode:
        raise InfrastructureError(
            f"the generation for {num_requests} requests failed: {last_line(done.stderr)}",
            required="a generation that ends",
            fix="read the message; a server on loopback must be reachable",
        )
    found: dict[str, Any] = json.loads(last_line(done.stdout))
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits for an acknowledgement

    def do_POST(self) -> None:  # noqa: N802  (the name that the library calls)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps(_answer(body["messages"][-1]["content"])).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _answer(request: str) -> dict[str, Any]:
    found = re.search(r"put (\w+ \w+ (\d+)) on", request)
    assert found is not None
    is_right = int(found[2]) % _WRONG_EACH
    function = {"name": "add_shopping_items", "arguments": json.dumps({"items": [{"name": found[1]}]})}
    calls = [{"id": "call_1", "type": "function", "function": function if is_right else {**function, "name": "add"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {
        "choices": [{"message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 30},
    }


@contextmanager
def _server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _print(report: dict[str, Any], file: Any) -> None:
    print("| requests | attempts | traces | rejects | peak | seconds |\n|---:|---:|---:|---:|---:|---:|", file=file)
    for run in report["runs"]:
        counts = " | ".join(f"{run[name]:,}" for name in ("num_requests", "num_outcomes", "kept", "rejected"))
        print(f"| {counts} | {run['peak_bytes'] / 2**20:.1f} MiB | {run['seconds']:.0f} |", file=file)
    print(
        f"\n{report['bytes_per_request']:,} bytes for each further request; "
        f"an outcome takes {report['outcome_bytes_on_disk']:,} bytes on disk.",
        file=file,
    )


if __name__ == "__main__":
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    try:
        sys.exit(main(sys.argv[1:]))
    except FcdistillError as error:
        say(str(error))
        sys.exit(error.exit_code)
