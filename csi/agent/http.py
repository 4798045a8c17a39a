"""HTTP for those who watch the process: metrics, and whether it lives and serves."""

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from csi.errors import InvalidRequestError, KernelError

Check = Callable[[], str]
"""Returns what is wrong; '' if nothing."""


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class HttpServer:
    """Serves /metrics, /healthz (to be ended and started again if it fails) and /readyz on one address."""

    def __init__(self, address: str, registry: CollectorRegistry, healthy: Check, ready: Check) -> None:
        """Bind ``address``, ``host:port``. Raise InvalidRequestError, KernelError."""
        host, port = split(address)
        handler = _handler({"/healthz": healthy, "/readyz": ready}, registry)
        kind = _Server6 if ":" in host else ThreadingHTTPServer
        try:
            self._server = kind((host, port), handler)
        except OSError as error:
            why = error.strerror or "cannot be bound"
            raise KernelError("listen on", address, why, errno=error.errno or 0) from error
        self._server.daemon_threads = True
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
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path in checks:
                trouble = checks[self.path]()
                status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
                self._send(status, "text/plain; charset=utf-8", f"{trouble or 'ok'}\n".encode())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: it is asked every few seconds."""

    return Handler
