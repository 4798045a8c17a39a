"""The management console of a running guest: a datagram socket (arch/um/drivers/mconsole.h)."""

import errno
import os
import socket
import struct
import tempfile
from typing import Final

_MAGIC: Final = 0xCAFEBABE
_VERSION: Final = 2
_REQUEST: Final = struct.Struct("=III512s")
_REPLY: Final = struct.Struct("=III")
_REPLY_SIZE: Final = _REPLY.size + 512
_LIMIT: Final = 60.0


def configure(directory: str, what: str) -> None:
    """Give the running guest whose console is in ``directory`` a device: ``ubdc=/a/file``.

    Raise OSError if it refuses.
    """
    command = f"config {what}".encode()
    with tempfile.TemporaryDirectory() as own, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        # A name in the file tree: the guest may be in another network namespace, where abstract names do not reach.
        end.bind(os.path.join(own, "reply"))
        end.settimeout(_LIMIT)
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            # By a name that is short enough for a socket wherever the directory is.
            path = f"/proc/self/fd/{place}/mconsole"
            end.sendto(_REQUEST.pack(_MAGIC, _VERSION, len(command), command), path)
        finally:
            os.close(place)
        reply = end.recv(_REPLY_SIZE)
    failed, _, length = _REPLY.unpack_from(reply)
    if failed:
        text = reply[_REPLY.size :][:length].decode(errors="replace").strip(" \0")
        raise OSError(errno.EINVAL, f"the guest refused {what}: {text}")
