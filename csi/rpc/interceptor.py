"""Around every call: the request decoded and its sizes checked, errors turned into codes, one log line written."""

import itertools
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from csi.errors import DriverError, InvalidRequestError
from csi.rpc import limits
from csi.rpc.redact import secrets_of, strip
from csi.rpc.status import code_of
from csi.rpc.validate import shown

QUICK: Final = (
    "/csi.v1.Identity/",
    "/csi.v1.Controller/ControllerGetCapabilities",
    "/csi.v1.GroupController/GroupControllerGetCapabilities",
    "/csi.v1.Node/NodeGetCapabilities",
    "/csi.v1.Node/NodeGetInfo",
    "/pluginregistration.Registration/",
)
"""Calls that never wait for a disk. They have threads of their own, so that a driver whose every other thread waits
for one still says that it is alive."""

_POLLED: Final = (
    *QUICK,
    "/csi.v1.Controller/GetCapacity",
    "/csi.v1.Controller/ControllerGetVolumeHealth",
    "/csi.v1.Controller/ControllerListVolumeHealth",
    "/csi.v1.Node/NodeGetVolumeStats",
    "/csi.v1.Node/NodeGetVolumeHealth",
    "/csi.v1.Node/NodeGetStorageHealth",
    "/thinpool.v1.Admin/GetNode",
)
_OURS_TO_MEND: Final = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
# A status travels in a header, percent-encoded; clients take 8 KiB of headers.
_MESSAGE_LIMIT: Final = 2000
# What a line names of a request, and of an answer: the key, and where it is found.
_NAMED: Final = (
    ("volume", "volume_id"),
    ("volume", "source_volume_id"),
    ("snapshot", "snapshot_id"),
    ("group", "group_snapshot_id"),
    ("name", "name"),
    ("target", "target_path"),
)
_ANSWERED: Final = (
    ("volume", "volume", "volume_id"),
    ("snapshot", "snapshot", "snapshot_id"),
    ("group", "group_snapshot", "group_snapshot_id"),
)

log = structlog.get_logger()

_Behaviour = Callable[[Any, grpc.ServicerContext], Any]
Observe = Callable[[str, str, float], None]
"""Is told of each call: its method (Service.Method), its code, and the seconds it took."""

# In quotes: generic for the type checker only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


Admits = Callable[[grpc.ServicerContext], bool]
"""Tells whether the caller may call (still)."""


def everybody(_context: grpc.ServicerContext) -> bool:
    """Let in whoever has reached the server."""
    return True


def unobserved(_method: str, _code: str, _seconds: float) -> None:
    """Take no note of a call."""


class Requests(grpc.ServerInterceptor):
    """Wraps every unary call of a server; ``running`` tells how many are being worked on."""

    def __init__(self, quick: ThreadPoolExecutor, observe: Observe = unobserved, admits: Admits = everybody) -> None:
        self.observe = observe
        self.admits = admits
        self._quick = quick
        self._calls: dict[str, _Handler] = {}
        self._running: set[int] = set()
        self._numbers = itertools.count(1)

    @property
    def running(self) -> int:
        """How many calls are being worked on now."""
        return len(self._running)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "_Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Return the wrapped handler of a method; gRPC calls this on its own single thread."""
        method = handler_call_details.method
        known = self._calls.get(method)
        if known is None:
            found = continuation(handler_call_details)
            if found is None or found.unary_unary is None or found.request_deserializer is None:
                return found
            call = _Call(self, method, found, self._quick if method.startswith(QUICK) else None)
            # The bytes come as they are: undecodable ones are then an answer with a code and a log line like any other.
            known = grpc.unary_unary_rpc_method_handler(call, None, found.response_serializer)
            self._calls[method] = known
        return known

    def enter(self) -> int:
        """Count a call in; return its number."""
        # Neither this nor leaving takes a lock: each of these steps is one for the interpreter.
        number = next(self._numbers)
        self._running.add(number)
        return number

    def leave(self, number: int) -> None:
        """Count a call out."""
        self._running.discard(number)


class _Call:
    """One method of a service, as gRPC calls it."""

    def __init__(
        self,
        requests: Requests,
        method: str,
        handler: _Handler,
        threads: ThreadPoolExecutor | None,
    ) -> None:
        # grpc/_server.py, _select_thread_pool_for_behavior: None means the server's own.
        self.experimental_thread_pool = threads
        self._requests = requests
        self._method = ".".join(method.rpartition(".")[2].split("/"))
        self._polled = method.startswith(_POLLED)
        self._decode: Callable[[bytes], Message] = handler.request_deserializer  # type: ignore[assignment]
        self._behaviour: _Behaviour = handler.unary_unary  # type: ignore[assignment]

    def __call__(self, raw: bytes, context: grpc.ServicerContext) -> object:
        number = self._requests.enter()
        started = time.monotonic()
        request: Message | None = None
        try:
            if not context.is_active():
                # The caller gave up while this waited for a thread, and comes again: a queue of such work only grows.
                context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
            if not self._requests.admits(context):
                self._log("warning", grpc.StatusCode.UNAUTHENTICATED, started, {"peer": context.peer()})
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "this certificate is not accepted any more")
            try:
                request = self._read(raw)
                response = self._behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - every error becomes a code here, and is logged
                self._refuse(error, request, context, number, started)
            self._log("info", grpc.StatusCode.OK, started, _names(request, response))
            return response
        finally:
            self._requests.leave(number)

    def _read(self, raw: bytes) -> Message:
        try:
            request = self._decode(raw)
        except DecodeError:
            raise InvalidRequestError("read", "request", "it is not a message of this call") from None
        limits.check(request)
        return request

    def _refuse(
        self, error: Exception, request: Message | None, context: grpc.ServicerContext, number: int, started: float
    ) -> NoReturn:
        code = code_of(error)
        secrets = secrets_of(request)
        fields = _names(request, None)
        if isinstance(error, DriverError):
            text = fields["error"] = _cut(strip(str(error), secrets))
        elif isinstance(error, NotImplementedError):
            text = fields["error"] = "not one of this driver's capabilities"
        else:
            # What it says is for the log alone: it may tell of anything.
            text = f"unexpected error {number}: see the driver's log"
            fields["number"] = number
            fields["error"] = strip(f"{type(error).__name__}: {error}", secrets)
            fields["traceback"] = strip("".join(traceback.format_exception(error)), secrets)
        self._log("error" if code in _OURS_TO_MEND else "warning", code, started, fields)
        context.abort(code, text)
        raise AssertionError("abort raises")  # pragma: no cover

    def _log(self, level: str, code: grpc.StatusCode, started: float, fields: dict[str, object]) -> None:
        if level == "info" and self._polled:
            level = "debug"
        seconds = time.monotonic() - started
        self._requests.observe(self._method, code.name, seconds)
        duration = round(seconds * 1000, 1)
        getattr(log, level)("request", method=self._method, code=code.name, duration_ms=duration, **fields)


def _names(request: Message | None, response: Message | None) -> dict[str, object]:
    """Return what a call was about; names and paths are written so that they cannot forge a line."""
    found: dict[str, object] = {}
    for key, field in _NAMED:
        text = getattr(request, field, "")
        if text and isinstance(text, str):
            found.setdefault(key, text if text.isprintable() and len(text) <= limits.STRING else shown(text))
    for key, message, field in _ANSWERED:
        text = getattr(getattr(response, message, None), field, "")
        if text:
            found.setdefault(key, text)
    return found


def _cut(text: str) -> str:
    data = text.encode()
    return text if len(data) <= _MESSAGE_LIMIT else data[:_MESSAGE_LIMIT].decode(errors="ignore") + "…"
