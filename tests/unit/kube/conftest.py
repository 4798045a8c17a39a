"""The stand-in for the cluster's API, by a short name."""

import pytest

from tests.unit.kube.fake import FakeApi


@pytest.fixture
def fake(fake_api: FakeApi) -> FakeApi:
    return fake_api
