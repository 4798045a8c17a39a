"""What cannot be avoided: an empty call, a durable commit, the bare message to the pool."""

import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc

from bench.sample import timed
from csi.model import ThinId
from csi.rpc.server import CALLS, OPTIONS, WORKERS
from csi.volumes.pool import Pool

EMPTY: Final = "/bench.Limit/Empty"
"""The call that does nothing, with no bytes in and none out."""

_FIRST: Final = 0xF00000
"""Thin ids that no catalog of a benchmark comes to."""
_GRACE: Final = 5.0


class EmptyServer:
    """A server as the node's, with the same options, threads and limits, and nothing in it but the empty call."""

    def __init__(self, path: Path) -> None:
        self.socket = str(path)
        self._server = grpc.server(ThreadPoolExecutor(WORKERS, "empty"), options=OPTIONS, maximum_concurrent_rpcs=CALLS)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_nothing)
        service, _, method = EMPTY.removeprefix("/").partition("/")
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.stop(_GRACE).wait(_GRACE)


def _nothing(_request: bytes, _context: grpc.ServicerContext) -> bytes:
    return b""


class Commits:
    """Durable commits of one row, on the catalog's file system and set up as the catalog is."""

    def __init__(self, pool: Pool) -> None:
        self._file = pool.catalog_dir / "limit.db"
        self._db = sqlite3.connect(self._file, isolation_level=None)
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, text TEXT)")

    def one(self) -> float:
        """Commit one row; return the seconds."""
        return timed(self._commit)

    def close(self) -> None:
        """Close the database and remove it."""
        self._db.close()
        for file in self._file.parent.glob(f"{self._file.name}*"):
            file.unlink()

    def _commit(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT INTO row (text) VALUES (?)", ("x" * 200,))
        self._db.execute("COMMIT")


class Messages:
    """The pool's own messages, sent by the driver's ioctl and by nothing else of it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ids = itertools.count(_FIRST)
        self._made: list[ThinId] = []

    def create(self) -> float:
        """Make a thin device; return the seconds. It is deleted again afterwards."""
        return self._one("create_thin {}")

    def snapshot(self, origin: ThinId) -> float:
        """Cut a thin device from ``origin``, which is not active; likewise."""
        return self._one(f"create_snap {{}} {origin}")

    def send_snapshot(self, origin: ThinId) -> None:
        """Cut a thin device from ``origin``, to be deleted by ``forget``."""
        self._send(f"create_snap {{}} {origin}")

    def forget(self) -> None:
        """Delete what was made since."""
        while self._made:
            self._pool.thin.delete(self._made.pop())

    def _one(self, text: str) -> float:
        seconds = timed(lambda: self._send(text))
        self.forget()
        return seconds

    def _send(self, text: str) -> None:
        thin = ThinId(next(self._ids))
        self._pool.control.message(self._pool.thin.name, text.format(thin))
        self._made.append(thin)
