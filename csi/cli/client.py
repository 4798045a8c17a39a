"""Asking for the figures of a node: of the one that serves, or, if none does, of its idle pools themselves."""

import argparse
import errno
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from csi import log
from csi.errors import DriverError, UnavailableError
from csi.rpc.endpoint import socket_path

if TYPE_CHECKING:
    from csi.pb.thinpool.v1 import admin_pb2 as pb

_CONNECT_TIMEOUT: Final = 5.0


class Source(Protocol):
    """Who answers: the calls of ``thinpool.v1.Admin``. All raise DriverError."""

    @property
    def served(self) -> bool:
        """Whether a node is running."""

    def node(self) -> "pb.GetNodeResponse":
        """Return the figures of node and pools."""

    def devices(self, kind: str) -> "pb.ListDevicesResponse":
        """Return the volumes or snapshots."""

    def check(self, *, rebuild: bool, claims: "Sequence[pb.Claim]" = ()) -> "pb.CheckResponse":
        """Compare catalogs and pools; with ``rebuild`` make them agree, and what is claimed what the claims say."""


@contextmanager
def reach(options: argparse.Namespace) -> Iterator[Source]:
    """Reach the node that serves at ``--endpoint``; if there is none, read the idle pools, and say so.

    Raise InvalidRequestError for a bad endpoint or pools file, UnavailableError if neither can be reached,
    PoolBusyError if a node serves the pools at another endpoint, NotFoundError if there is no pool either.
    """
    log.configure(options.log_format, options.log_level)
    path = socket_path(options.endpoint)
    # Which it is must be known before either is loaded: gRPC may not be there yet when an idle pool is opened.
    if listening(path):
        from csi.cli.served import Served  # noqa: PLC0415 - see above

        with Served(path) as node:
            yield node
    else:
        print(f"thinpool-csi: no node is running at {path}: reading the idle pools", file=sys.stderr)
        from csi.cli.idle import idle  # noqa: PLC0415 - see above

        with idle(options) as pools:
            yield pools


def answer(options: argparse.Namespace, show: Callable[[Source], int], *, failed: int = 1) -> int:
    """Return what ``show`` does; ``failed``, with a line on standard error, if the question could not be answered."""
    try:
        with reach(options) as source:
            return show(source)
    except DriverError as error:
        print(f"thinpool-csi: {error}", file=sys.stderr)
        return failed


def listening(path: str) -> bool:
    """Tell whether somebody serves at a unix socket. Raise UnavailableError if that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return False
            raise UnavailableError(
                "ask the node at",
                path,
                str(error.strerror or error),
                errno=error.errno or 0,
                way_out="run it as root" if error.errno == errno.EACCES else "",
            ) from error
    return True
