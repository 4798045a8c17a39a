"""HTTP for those who watch the process: metrics, and whether it lives and serves."""

import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from csi.errors import InvalidRequestError, KernelError

Check = Callable[[], str]
"""Returns what is wrong; '' if nothing."""

_Request = socket.socket | tuple[bytes, socket.socket]
"""A connection, as the library has it; here always the former."""

_CONNECTIONS: Final = 32
"""Open at once."""
_SCRAPES: Final = 4
"""At once, one at work and the others waiting; the next is told to come again. These leave places for the probes."""
_PATIENCE: Final = 0.1
"""Seconds in which a connection that was shut out ends."""


class _Server(ThreadingHTTPServer):
    """A thread a connection, and a bound to both: whoever reaches the port may hold as many open as he likes."""

    request_queue_size = 128
    """Of the 5 that it would be, a burst leaves no room for a probe."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.Semaphore(_CONNECTIONS)
        self._lock = threading.Lock()
        """Over the list: what is shut out is never a socket that was closed, whose number may be another's by then."""
        self._open: list[Any] = []
        """Those that were not shut out, the oldest first."""
        super().__init__(address, handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve it, in the place of the oldest if there is no other: so a probe always gets in."""
        patience = 0.0
        while not self._places.acquire(timeout=patience):
            # Its thread reads the end, unless it is at work on an answer: then the next must go.
            with self._lock, suppress(IndexError, OSError):
                self._open.pop(0).shutdown(socket.SHUT_RDWR)
            patience = _PATIENCE
        with self._lock:
            self._open.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: _Request) -> None:
        """End it, and give its place away."""
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)
        self._places.release()

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Say what went wrong, but for a client that is gone or was shut out."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class HttpServer:
    """Serves /metrics, /healthz (to be ended and started again if it fails) and /readyz on one address."""

    def __init__(self, address: str, registry: CollectorRegistry, healthy: Check, ready: Check) -> None:
        """Bind ``address``, ``host:port``. Raise InvalidRequestError, KernelError."""
        host, port = split(address)
        handler = _handler({"/healthz": healthy, "/readyz": ready}, registry)
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, port), handler)
        except OSError as error:
            why = error.strerror or "cannot be bound"
            raise KernelError("listen on", address, why, errno=error.errno or 0) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.server_port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        structlog.get_logger().info("serving metrics", port=self.port)

    def stop(self) -> None:
        """End at once."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def split(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, of an IPv6 address in brackets or not. Raise InvalidRequestError."""
    address = bracketed(address)
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != address:
        raise InvalidRequestError("listen on", address, "not an address: write 10.0.0.1:9810")
    return host, port


def bracketed(address: str) -> str:
    """Return ``host:port`` with the brackets that an IPv6 address needs: a pod's manifest cannot put them there."""
    host, colon, port = address.rpartition(":")
    return f"[{host}]:{port}" if colon and ":" in host and not host.startswith("[") else address


def _handler(checks: dict[str, Check], registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    scrapes, at_work = threading.Semaphore(_SCRAPES), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._tell_metrics()
            elif self.path in checks:
                trouble = checks[self.path]()
                status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
                self._send(status, "text/plain; charset=utf-8", f"{trouble or 'ok'}\n".encode())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _tell_metrics(self) -> None:
            if not scrapes.acquire(blocking=False):
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            try:
                with at_work:
                    text = generate_latest(registry)
            finally:
                scrapes.release()
            self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, text)

        def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: it is asked every few seconds."""

    return Handler
