"""The connection to the cluster: its verbs, its errors, its watches."""

import json

import pytest
from kubernetes.client.configuration import Configuration

from csi.errors import BusyError, DriverError, ExistsError, NotFoundError, StateError, UnavailableError
from csi.kube.api import Api, ExpiredError
from csi.kube.resources import THIN_POOL_NODES, THIN_POOLS, config_maps
from tests.unit.kube.fake import FakeApi

POOLS = "/apis/thinpool-csi.dev/v1alpha1/thinpools"


def named(name: str, version: str = "1") -> dict[str, object]:
    return {"metadata": {"name": name, "resourceVersion": version}}


def test_objects_are_listed_with_the_version_at_which_it_was_so(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/fast"] = named("fast")
    assert api.all(THIN_POOLS) == ([named("fast")], "7")
    assert api.get(THIN_POOLS, "fast") == named("fast")


def test_a_selector_goes_along(api: Api, fake: FakeApi) -> None:
    api.all(THIN_POOL_NODES, field_selector="spec.nodeName=a")
    assert fake.requests[-1][1].endswith("/thinpoolnodes?fieldSelector=spec.nodeName%3Da")


def test_a_namespace_and_a_subresource_are_in_the_path(api: Api, fake: FakeApi) -> None:
    fake.answers = [(200, {}), (200, {})]
    api.get(config_maps("storage"), "x")
    assert fake.requests[-1][1] == "/api/v1/namespaces/storage/configmaps/x"
    api.patch(THIN_POOL_NODES, "fast.a", {"status": {}}, subresource="status")
    assert fake.requests[-1][:2] == ("PATCH", "/apis/thinpool-csi.dev/v1alpha1/thinpoolnodes/fast.a/status")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, StateError),
        (404, NotFoundError),
        (409, BusyError),
        (422, StateError),
        (429, UnavailableError),
        (500, UnavailableError),
    ],
)
def test_each_answer_has_its_error_and_says_why(api: Api, fake: FakeApi, status: int, error: type[DriverError]) -> None:
    fake.answers = [(status, {"message": "because"})]
    with pytest.raises(error, match=f"thinpools/fast: HTTP {status}: because"):
        api.get(THIN_POOLS, "fast")


def test_what_is_there_already_is_an_error_of_its_own(api: Api, fake: FakeApi) -> None:
    fake.answers = [(409, {"message": "exists"})]
    with pytest.raises(ExistsError):
        api.create(THIN_POOLS, named("fast"))


def test_an_answer_that_is_no_object_is_an_error(api: Api, fake: FakeApi) -> None:
    fake.answers = [(200, [])]
    with pytest.raises(UnavailableError, match="no object"):
        api.get(THIN_POOLS, "fast")


def test_a_cluster_out_of_reach_is_unavailable() -> None:
    settings = Configuration(host="http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Api(settings).get(THIN_POOLS, "fast")


def test_the_account_is_told_and_read_again_when_it_is_due(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Configuration(host=f"http://127.0.0.1:{fake.server.server_port}")
    api = Api(settings)
    fake.objects[f"{POOLS}/fast"] = named("fast")
    api.get(THIN_POOLS, "fast")
    settings.api_key["BearerToken"] = "bearer one"
    api.get(THIN_POOLS, "fast")
    monkeypatch.setattr(settings, "refresh_api_key_hook", lambda used: used.api_key.update(BearerToken="bearer two"))
    api.get(THIN_POOLS, "fast")
    api.rest.close()
    assert fake.accounts == [None, "bearer one", "bearer two"]


def test_outside_of_a_pod_there_is_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UnavailableError, match="run in a pod"):
        Api.connect()


def test_a_watch_yields_what_happens_and_ends_with_the_server(api: Api, fake: FakeApi) -> None:
    fake.watches.put([{"type": "ADDED", "object": named("a")}, {"type": "BOOKMARK", "object": named("", "9")}])
    assert list(api.watch(THIN_POOLS, "7")) == [("ADDED", named("a")), ("BOOKMARK", named("", "9"))]
    assert "resourceVersion=7" in fake.requests[-1][1]


def test_a_watch_from_too_long_ago_says_so(api: Api, fake: FakeApi) -> None:
    fake.watches.put([{"type": "ERROR", "object": {"code": 410, "message": "too old"}}])
    with pytest.raises(ExpiredError):
        list(api.watch(THIN_POOLS, "7"))
    fake.watches.put([{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}])
    with pytest.raises(UnavailableError, match="etcd"):
        list(api.watch(THIN_POOLS, "7"))


def test_deleting_may_name_the_one_object_that_is_meant(api: Api, fake: FakeApi) -> None:
    fake.objects[f"{POOLS}/fast"] = named("fast")
    api.delete(THIN_POOLS, "fast", uid="u")
    assert json.dumps(fake.requests[-1][2]) == '{"preconditions": {"uid": "u"}}'
