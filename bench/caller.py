"""The caller of the driver, a process of its own: reads orders from standard input, answers on standard output.

    {"calls": [[socket, method, request], …], "at_once": 64}

An order is one line of JSON, requests and answers are the messages in their JSON form. Each call is timed where it is
made; the whole as well. With ``"pages": 500`` the one call is a list that is read to its end.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message

from csi.pb.csi.v1 import csi_pb2

DEADLINE: Final = 120.0
"""Seconds for any call."""

Call = tuple[Callable[..., Any], Any]


class Client:
    """Channels, one for each socket, and the methods on them."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.Channel] = {}
        self._methods: dict[tuple[str, str], tuple[Callable[..., Any], type[Message] | None]] = {}

    def call(self, socket: str, method: str, request: dict[str, Any]) -> Call:
        """Return what makes the call and what it is made with."""
        if (socket, method) not in self._methods:
            self._methods[socket, method] = self._method(socket, method)
        stub, kind = self._methods[socket, method]
        return stub, b"" if kind is None else json_format.ParseDict(request, kind())

    def _method(self, socket: str, method: str) -> tuple[Callable[..., Any], type[Message] | None]:
        channel = self._channels.get(socket)
        if channel is None:
            channel = self._channels[socket] = grpc.insecure_channel(f"unix:{socket}")
        if not method.startswith("/csi.v1."):
            return channel.unary_unary(method), None
        service, _, name = method.removeprefix("/csi.v1.").partition("/")
        found = csi_pb2.DESCRIPTOR.services_by_name[service].methods_by_name[name]
        request, answer = (
            symbol_database.Default().GetSymbol(each.full_name) for each in (found.input_type, found.output_type)
        )
        stub = channel.unary_unary(
            method, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )
        return stub, request


def timed_calls(calls: list[Call], at_once: int) -> tuple[float, list[tuple[float, Any]]]:
    """Make all calls, so many at once; return the seconds of the whole, and of each with its answer."""
    done: list[tuple[float, Any]] = [(0.0, None)] * len(calls)
    failed: list[Exception] = []
    waiting: Iterator[tuple[int, Call]] = iter(enumerate(calls))
    turn = threading.Lock()

    def work() -> None:
        try:
            while not failed:
                with turn:
                    place, (stub, request) = next(waiting, (-1, (None, None)))
                if stub is None:
                    return
                begun = time.perf_counter()
                answer = stub(request, timeout=DEADLINE, wait_for_ready=True)
                done[place] = (time.perf_counter() - begun, answer)
        except grpc.RpcError as error:
            failed.append(error)

    begun = time.perf_counter()
    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - begun
    if failed:
        raise failed[0]
    return whole, done


def listed(call: Call, pages: int) -> tuple[float, int]:
    """Read a list of volumes to its end; return the seconds and how many there are."""
    stub, request = call
    request.max_entries = pages
    count = 0
    begun = time.perf_counter()
    while True:
        answer = stub(request, timeout=DEADLINE, wait_for_ready=True)
        count += len(answer.entries)
        if not answer.next_token:
            return time.perf_counter() - begun, count
        request.starting_token = answer.next_token


def main() -> None:
    """Do as told until standard input ends."""
    client = Client()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            calls = [client.call(*each) for each in order["calls"]]
            if "pages" in order:
                whole, count = listed(calls[0], order["pages"])
                answer: dict[str, Any] = {"seconds": whole, "count": count}
            else:
                whole, done = timed_calls(calls, order["at_once"])
                answer = {"seconds": whole, "each": [(seconds, _shown(each)) for seconds, each in done]}
        except grpc.RpcError as error:
            answer = {"error": f"{error.code()}: {error.details()}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _shown(answer: object) -> dict[str, Any]:
    if not isinstance(answer, Message):
        return {}
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


if __name__ == "__main__":
    main()
