"""A small stand-in for the cluster's API, over HTTP on loopback."""

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from csi.kube.api import Api


class FakeApi:
    """Keeps objects by path; every change is an event of the watch of its collection."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: list[tuple[int, Any]] = []
        """What the next requests get instead of an answer."""
        self.watches: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        """What the next watches yield before they end."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as the base class calls them

            def _answer(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                said = json.loads(body) if body else None
                fake.requests.append((self.command, self.path, said))
                query = parse_qs(url.query)
                if "watch" in query:
                    self._watch()
                    return
                status, answer = fake.answers.pop(0) if fake.answers else fake.answer(self.command, url.path, said)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _watch(self) -> None:
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    events = fake.watches.get(timeout=30)
                except queue.Empty:
                    # As a server does when a watch has lasted for long enough.
                    events = []
                for event in events:
                    self.wfile.write(json.dumps(event).encode() + b"\n")
                    self.wfile.flush()
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
                pass

        return Handler

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: ANN401 - JSON
        if method == "POST":
            self.objects[f"{path}/{body['metadata']['name']}"] = body
            return 201, body
        path = path.removesuffix("/status")
        if path in self.objects:
            if method == "PATCH":
                self.objects[path] = {**self.objects[path], **body}
            return 200, self.objects.pop(path) if method == "DELETE" else self.objects[path]
        items = [each for key, each in self.objects.items() if key.rpartition("/")[0] == path]
        if items or path.endswith("s"):
            return 200, {"items": items, "metadata": {"resourceVersion": "7"}}
        return 404, {"message": "not there"}


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    made = FakeApi()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def api(fake: FakeApi) -> Api:
    settings = client.Configuration(host=f"http://127.0.0.1:{fake.server.server_port}")
    settings.retries = False
    return Api(client.ApiClient(settings))
