"""Where a node serves: unix sockets by name. Nothing of gRPC is loaded for it."""

from typing import Final

from csi.errors import InvalidRequestError

_SOCKET_PATH: Final = 107  # unix(7): sun_path holds 108 bytes with the NUL.


def socket_path(endpoint: str) -> str:
    """Return the path of an endpoint: ``unix:///run/x.sock``, ``unix:/run/x.sock`` or the path itself.

    Raise InvalidRequestError for anything but an absolute path that a socket can have.
    """
    path = endpoint.removeprefix("unix://") if endpoint.startswith("unix://") else endpoint.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidRequestError("use endpoint", repr(endpoint), "write unix:///path/to/csi.sock")
    if len(path.encode()) > _SOCKET_PATH:
        raise InvalidRequestError("use endpoint", repr(endpoint), f"longer than the {_SOCKET_PATH} bytes of a socket")
    return path
