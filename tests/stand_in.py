"""A stand-in for an OpenAI-compatible server on this machine, which fails where its script says so."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

#: What the server does with a request instead of answering it: a status with headers (or what makes them) and a body, or
#: a name below; None answers.
Failure = tuple[int, dict[str, Any], str] | str | None


def completion(text: Any, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "x", "object": "chat.completion", "model": "served-model-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3}, **more,
    }  # fmt: skip


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"][-1]["text"])


def picture_of(body: dict[str, Any]) -> Image.Image:
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    start, _, data = url.partition(",")
    assert start == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


@dataclass
class StandIn:
    """The server's script, and what it saw."""

    url: str = ""
    models: list[str] | None = field(default_factory=lambda: ["model-a"])
    answer: Callable[[dict[str, Any]], Any] = lambda body: completion("{1}")
    failures: list[Failure] = field(default_factory=list)  # one for each of the first requests
    forever: Failure | None = None
    pause: float = 0.0
    key: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    running: int = 0
    most: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        return len(self.bodies)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: StandIn

    def log_message(self, *_: Any) -> None:
        pass

    def _say(self, status: int, text: str, headers: dict[str, Any] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value() if callable(value) else value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _allowed(self) -> bool:
        wanted = self.script.key
        if wanted is None or self.headers.get("Authorization") == f"Bearer {wanted}":
            return True
        refusal = {"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}}
        self._say(401, json.dumps(refusal))
        return False

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path.endswith("/models") and self.script.models is not None:
            self._say(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.script.models]}))
        else:
            self._say(404, '{"detail": "Not Found"}')

    def do_POST(self) -> None:
        script = self.script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with script.lock:
            script.running += 1
            script.most = max(script.most, script.running)
            script.bodies.append(body)
            script.headers.append({name.title(): value for name, value in self.headers.items()})
            script.times.append(time.monotonic())
            failure = script.failures.pop(0) if script.failures else script.forever
        try:
            if failure is None:
                time.sleep(script.pause)
            if not self._allowed():
                return
            if not self.path.endswith("/chat/completions"):
                self._say(404, '{"detail": "Not Found"}')
            elif isinstance(failure, tuple):
                status, headers, text = failure
                self._say(status, text, headers)
            elif failure == "broken":
                self._say(200, '{"choices": [{"mess')
            elif failure == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choi')
                self.close_connection = True
            elif failure == "trickle":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                        time.sleep(0.1)
                self.close_connection = True
            elif failure == "hangup":
                self.close_connection = True
            elif failure == "slow":
                time.sleep(20)
                self.close_connection = True
            else:
                assert failure is None
                self._say(200, json.dumps(script.answer(body)))
        finally:
            with script.lock:
                script.running -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:  # a client that went away
        pass


@contextmanager
def serving(**script: Any) -> Iterator[StandIn]:
    """The server, while the block runs."""
    stand_in = StandIn(**script)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"script": stand_in}))
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
