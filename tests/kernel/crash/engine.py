"""A node in a process of its own, which dies where a test wants it to and is started again on the same pool."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Concatenate, Final, NoReturn, ParamSpec, TypeVar
from unittest.mock import patch

import pytest

from csi import failpoint, log
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.thin_pool import ThinPool
from csi.settings import PoolSpec
from csi.volumes.node import Node
from csi.volumes.opening import Place

_PATIENCE: Final = 180.0

P = ParamSpec("P")
R = TypeVar("R")


class DiedError(Exception):
    """The node's process ended with this signal (or exit status, negative)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the node ended with {number}")
        self.number = number


class NotServingError(Exception):
    """The node does not serve the pool, and says why."""


@dataclass(frozen=True)
class Engine:
    """Where nodes of one name with one pool run, one after the other."""

    base: Path
    spec: PoolSpec

    @property
    def kubelet(self) -> Path:
        return self.base / "kubelet"

    @property
    def run_dir(self) -> Path:
        return self.base / "run"

    @property
    def messages(self) -> Path:
        """The file that lists every message which any of the nodes has sent to the pool with success."""
        return self.base / "messages"

    @property
    def said(self) -> str:
        """What the nodes have logged."""
        return (self.base / "log").read_text()

    def start(self, *, point: str = "") -> "Started":
        """Start a node; with ``point`` it dies there before it serves, and DiedError says so. Raise NotServingError."""
        ours, theirs = Pipe()
        pid = os.fork()
        if not pid:
            ours.close()
            self._run(theirs, point)
        theirs.close()
        started = Started(self, ours, pid)
        closed = started.answer()
        if closed:
            started.stop()
            raise NotServingError(closed)
        return started

    def dies_at_start(self, point: str) -> None:
        """Start a node that must die at ``point`` before it serves."""
        with pytest.raises(DiedError) as died:
            self.start(point=point).stop()
        assert died.value.number == signal.SIGKILL

    def _run(self, pipe: Connection, point: str) -> NoReturn:
        """Be the node until the pipe closes."""
        status = 1
        try:
            with open(self.base / "log", "a") as stream:
                log.configure("json", "debug", stream)
                os.environ[failpoint.VARIABLE] = point
                node = self._open()
                serve(node, pipe)
            status = 0
        except BaseException:  # noqa: BLE001 - it must not go on as the test
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _open(self) -> Node:
        freezer = Freezer.start()
        patch.object(ThinPool, "_change", _recording(self.messages)).start()
        self.kubelet.mkdir(exist_ok=True)
        place = Place("node-a", self.base / "state", self.run_dir, self.kubelet, Control(), freezer)
        node = Node(place, [self.spec])
        node.open()
        return node


def serve(node: Node, pipe: Connection) -> None:
    """Carry out what comes over the pipe until it closes."""
    pipe.send((True, {name: str(error) for name, error in node.closed.items()}))
    while True:
        try:
            point, function, args, kwargs = pipe.recv()
        except EOFError:
            node.close()
            return
        os.environ[failpoint.VARIABLE] = point
        try:
            answer = (True, function(node, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the test's
            answer = (False, error)
        pipe.send(answer)


class Started:
    """A node that runs."""

    def __init__(self, engine: Engine, pipe: Connection, pid: int) -> None:
        self.engine = engine
        self.pid = pid
        self._pipe = pipe

    @property
    def alive(self) -> bool:
        return bool(self.pid)

    def do(self, function: Callable[Concatenate[Node, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the node carry ``function`` out; return what it returns, raise what it raises."""
        self.begin("", function, *args, **kwargs)
        return self.answer()  # type: ignore[return-value]

    def dies_at(
        self, point: str, function: Callable[Concatenate[Node, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have the node carry ``function`` out, and see that it dies at ``point``."""
        assert point in failpoint.POINTS
        self.begin(point, function, *args, **kwargs)
        with pytest.raises(DiedError) as died:
            self.answer()
        assert died.value.number == signal.SIGKILL

    def begin(
        self, point: str, function: Callable[Concatenate[Node, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have the node begin to carry ``function`` out."""
        self._pipe.send_bytes(pickle.dumps((point, function, args, kwargs)))

    def answer(self) -> object:
        """Return what the node answers, or raise it. Raise DiedError if it died."""
        if not self._pipe.poll(_PATIENCE):
            self.kill()
            message = f"no answer within {_PATIENCE:g} s"
            raise AssertionError(message)
        try:
            fine, answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise DiedError(self._reap()) from None
        if not fine:
            raise answer
        return answer

    def kill(self) -> None:
        """Kill the node now."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Let the node end by itself."""
        if self.alive:
            self._pipe.close()
            assert self._reap() == 0

    def _reap(self) -> int:
        self._pipe.close()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return -os.waitstatus_to_exitcode(status)


def _recording(file: Path) -> Callable[..., None]:
    change = ThinPool._change

    def recorded(self: ThinPool, text: str, *, confirm: bool = True) -> None:
        change(self, text, confirm=confirm)
        with file.open("a") as stream:
            stream.write(f"{text}\n")

    return recorded
