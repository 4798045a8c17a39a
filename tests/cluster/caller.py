"""Calls from inside the cluster's network that kubectl cannot make: ``python -m tests.cluster.caller probe | patch``.

What to call is JSON at standard input; what came of it is printed.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import grpc

from csi.pb.csi.v1 import csi_pb2 as pb
from csi.pb.csi.v1.csi_pb2_grpc import IdentityStub
from csi.rpc.trust import NODE

_LIMIT: Final = 30.0


def probe(address: str, node: str, key: str, certificate: str) -> str:
    """Call a node's port for the controllers, with a certificate or with none; return the code."""
    shown = (key.encode(), certificate.encode()) if certificate else (None, None)
    credentials = grpc.ssl_channel_credentials(node.encode(), *shown)
    with grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", NODE)]) as channel:
        try:
            IdentityStub(channel).Probe(pb.ProbeRequest(), timeout=_LIMIT)
        except grpc.RpcError as error:
            failed: Any = error
            return str(failed.code().name)
    return "OK"


def patch(url: str, token: str, body: object) -> str:
    """Send a merge patch to the API server, without kubectl's look at the object first; return the answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PATCH")  # noqa: S310 - https
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=_LIMIT, context=context) as answer:  # noqa: S310 - as above
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


if __name__ == "__main__":
    call: Callable[..., str] = {"probe": probe, "patch": patch}[sys.argv[1]]  # type: ignore[assignment]
    print(call(**json.load(sys.stdin)))
