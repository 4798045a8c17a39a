"""Election by a lease: one leads, and an API that is away for a while ends nothing for good."""

import threading
from collections.abc import Callable, Iterator

import pytest

from csi.kube import lease
from csi.kube.api import Api
from csi.kube.lease import Election
from tests.unit.kube.fake import FakeApi

PATH = "/apis/coordination.k8s.io/v1/namespaces/ours/leases"
LIMIT = 20.0


class Candidate:
    """Stands for election and notes when it leads."""

    def __init__(self, api: Api, name: str) -> None:
        self.leads = threading.Event()
        self.ceased = threading.Event()
        self.election = Election(api, "ours", "lead", name, self.leads.set, self._cease)
        self.election.start()

    def _cease(self) -> None:
        self.leads.clear()
        self.ceased.set()


Stand = Callable[[str], Candidate]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_DURATION", 4), ("_RENEW", 3), ("_RETRY", 1)):
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def stand(api: Api) -> Iterator[Stand]:
    """Let candidates stand, and none of them after the test."""
    candidates: list[Candidate] = []

    def begin(name: str) -> Candidate:
        candidates.append(Candidate(api, name))
        return candidates[-1]

    yield begin
    for each in candidates:
        each.election.stop()


def test_one_of_two_leads(stand: Stand, fake_api: FakeApi) -> None:
    first = stand("first")
    assert first.leads.wait(LIMIT)
    second = stand("second")
    assert not second.leads.wait(1)
    assert fake_api.objects[f"{PATH}/lead"]["spec"]["holderIdentity"] == "first"


def test_who_cannot_renew_ceases_and_leads_again_when_the_cluster_is_back(stand: Stand, fake_api: FakeApi) -> None:
    candidate = stand("first")
    assert candidate.leads.wait(LIMIT)
    fake_api.down = True
    assert candidate.ceased.wait(LIMIT)
    assert not candidate.leads.is_set()
    fake_api.down = False
    assert candidate.leads.wait(LIMIT)


def test_who_finds_no_cluster_stands_until_there_is_one(stand: Stand, fake_api: FakeApi) -> None:
    fake_api.down = True
    candidate = stand("first")
    assert not candidate.leads.wait(1)
    fake_api.down = False
    assert candidate.leads.wait(LIMIT)


def test_who_is_stopped_ceases_to_lead_and_another_does(stand: Stand) -> None:
    first = stand("first")
    assert first.leads.wait(LIMIT)
    second = stand("second")
    first.election.stop()
    assert first.ceased.is_set()
    assert second.leads.wait(LIMIT)
    assert not first.leads.is_set()


def test_who_is_stopped_before_leading_never_leads(stand: Stand, fake_api: FakeApi) -> None:
    fake_api.down = True
    first = stand("first")
    first.election.stop()
    fake_api.down = False
    assert not first.leads.wait(2)


def test_who_never_stood_is_stopped_at_once(api: Api) -> None:
    Election(api, "ours", "lead", "first", lambda: None, lambda: None).stop()
