"""A small stand-in for the cluster's API, over HTTP on loopback."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_WATCHES: Final = 16
"""More than any test has at once."""
_EXPIRED: Final = [{"type": "ERROR", "object": {"code": 410}}]


class FakeApi:
    """Keeps objects by path; every change is an event of the watch of its collection."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.accounts: list[str | None] = []
        """What each request said of who it is."""
        self.answers: list[tuple[int, Any]] = []
        """What the next requests get instead of an answer."""
        self.down = False
        """Whether it breaks every connection off."""
        self.refused = 0
        """Connections that were broken off."""
        self.version = 7
        """Of what is listed."""
        self.oldest = 0
        """What happened since an older version is known no more."""
        self.watches: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        """What the next watches yield before they end."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self) -> None:
        """Serve no more; a watch that waits for events ends too."""
        for _ in range(_WATCHES):
            self.watches.put([])
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as the base class calls them

            def _answer(self) -> None:
                if fake.down:
                    fake.refused += 1
                    self.close_connection = True
                    self.connection.close()
                    return
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                said = json.loads(body) if body else None
                fake.accounts.append(self.headers.get("Authorization"))
                fake.requests.append((self.command, self.path, said))
                query = parse_qs(url.query)
                if "watch" in query:
                    self._watch(query["resourceVersion"][0])
                    return
                status, answer = fake.answers.pop(0) if fake.answers else fake.answer(self.command, url.path, said)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _watch(self, version: str) -> None:
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    events = _EXPIRED if int(version) < fake.oldest else fake.watches.get(timeout=30)
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
        if method == "PUT":
            self.objects[path] = body
        if path in self.objects:
            if method == "PATCH":
                self.objects[path] = merged(self.objects[path], body)
            return 200, self.objects.pop(path) if method == "DELETE" else self.objects[path]
        items = [each for key, each in self.objects.items() if key.rpartition("/")[0] == path]
        if items or path.endswith("s"):
            return 200, {"items": items, "metadata": {"resourceVersion": str(self.version)}}
        return 404, {"code": 404, "message": "not there"}


def merged(there: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return what a merge patch makes (RFC 7396)."""
    made = dict(there)
    for key, value in body.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            known = made.get(key)
            made[key] = merged(known if isinstance(known, dict) else {}, value)
        else:
            made[key] = value
    return made
