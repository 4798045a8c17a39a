"""Keeping secrets out of what is written: log lines, and the messages that go back to a caller.

A request's secrets are the values of the fields that CSI marks ``csi_secret``, and the service account tokens that the
kubelet may put in a volume's context. None of them is ever logged as a field. But an error's text may quote anything,
so they are also cut out of every text.
"""

import functools
from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from csi.pb.csi.v1 import csi_pb2 as pb

STRIPPED: Final = "***stripped***"
_TOKENS: Final = "csi.storage.k8s.io/serviceAccount.tokens"


def secrets_of(request: Message | None) -> list[str]:
    """Return every secret text of a request, the longest first."""
    return sorted(set(_secrets(request)), key=len, reverse=True) if request is not None else []


def strip(text: str, secrets: list[str]) -> str:
    """Return ``text`` without the secrets."""
    for secret in secrets:
        text = text.replace(secret, STRIPPED)
    return text


def _secrets(request: Message) -> Iterator[str]:
    for name in _fields(request.DESCRIPTOR):
        yield from (value for value in getattr(request, name).values() if value)
    tokens = dict(getattr(request, "volume_context", {})).get(_TOKENS)
    if tokens:
        yield tokens


@functools.cache
def _fields(descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(field.name for field in descriptor.fields if field.GetOptions().Extensions[pb.csi_secret])
