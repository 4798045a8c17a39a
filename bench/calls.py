"""The caller's process, from our side, and the requests that it makes."""

import json
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.limit import EMPTY
from csi.units import Bytes

_PATIENCE: Final = 900.0
"""Seconds for an order; each call of it has its own limit."""
_END: Final = 30.0

Order = tuple[str, str, Mapping[str, Any]]
"""A call: the socket, the method, the request."""

WRITER: Final = {"access_mode": {"mode": "SINGLE_NODE_WRITER"}}


class CallerError(Exception):
    """A call was refused, or the caller is gone."""


@dataclass(frozen=True)
class Answer:
    """A call that was made: the seconds it took and what it returned."""

    seconds: float
    value: Mapping[str, Any]


class Caller:
    """A process that calls the driver as the kubelet and the side-cars do: from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.caller"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def calls(self, orders: Sequence[Order]) -> list[Answer]:
        """Make calls one after the other. Raise CallerError if one is refused."""
        return [Answer(*each) for each in self._ask({"calls": orders, "at_once": 1})["each"]]

    def burst(self, orders: Sequence[Order], at_once: int) -> tuple[float, list[Answer]]:
        """Make calls, so many at once; return the seconds of the whole and the answers. Raise CallerError."""
        answer = self._ask({"calls": orders, "at_once": at_once})
        return answer["seconds"], [Answer(*each) for each in answer["each"]]

    def listing(self, socket: str, pages: int) -> tuple[float, int]:
        """Read the list of volumes to its end; return the seconds and how many. Raise CallerError."""
        answer = self._ask({"calls": [(socket, "/csi.v1.Controller/ListVolumes", {})], "pages": pages})
        return answer["seconds"], answer["count"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._process.stdin.close()
        self._process.wait(_END)

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None  # noqa: S101, PT018 - it was started with pipes
        into.write(json.dumps(order) + "\n")
        into.flush()
        ready, _, _ = select.select([out], [], [], _PATIENCE)
        line = out.readline() if ready else ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the caller gave no answer"}
        if "error" in answer:
            raise CallerError(answer["error"])
        return answer


def empty(socket: str) -> Order:
    """Return the call that does nothing."""
    return socket, EMPTY, {}


def create_volume(socket: str, name: str, size: Bytes, pool: str = "") -> Order:
    """Return the call that makes a volume."""
    request: dict[str, Any] = {
        "name": name,
        "capacity_range": {"required_bytes": size},
        "volume_capabilities": [{"mount": {"fs_type": "ext4"}, **WRITER}],
    }
    return socket, "/csi.v1.Controller/CreateVolume", {**request, "parameters": {"pool": pool}} if pool else request


def create_snapshot(socket: str, name: str, source: str) -> Order:
    """Return the call that cuts a snapshot."""
    return socket, "/csi.v1.Controller/CreateSnapshot", {"name": name, "source_volume_id": source}


def stage(socket: str, volume: str, path: str) -> Order:
    """Return the call that stages a volume."""
    request = {
        "volume_id": volume,
        "staging_target_path": path,
        "volume_capability": {"mount": {"fs_type": "ext4"}, **WRITER},
    }
    return socket, "/csi.v1.Node/NodeStageVolume", request


def unstage(socket: str, volume: str, path: str) -> Order:
    """Return the call that takes that back."""
    return socket, "/csi.v1.Node/NodeUnstageVolume", {"volume_id": volume, "staging_target_path": path}
