"""The fake node answers to the calls of the real one."""

import inspect

import pytest

from csi.volumes.node import Node
from tests.unit.rpc.fake import FakeNode

OWN = {"reset", "changes"}
CALLS = [name for name in vars(FakeNode) if not name.startswith("_") and name not in OWN]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_the_fake_takes_what_the_node_takes(name: str) -> None:
    fake, real = (inspect.signature(getattr(kind, name)).parameters.values() for kind in (FakeNode, Node))
    assert [each.kind for each in fake] == [each.kind for each in real]
    assert [each.annotation for each in fake] == [each.annotation for each in real]
