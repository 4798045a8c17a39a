"""The entries of the controllers' certificates: each writes its own, and those of the dead are taken away."""

from csi.agent.published import Published
from csi.kube.api import Api
from tests.unit.kube.fake import FakeApi

PATH = "/api/v1/namespaces/ours/configmaps/controllers"


def entries(fake: FakeApi) -> object:
    return fake.objects[PATH].get("data")


def test_each_writes_and_withdraws_its_own(fake_api: FakeApi, api: Api) -> None:
    fake_api.objects[PATH] = {"metadata": {"name": "controllers"}}
    one, other = (Published(api, "ours", "controllers", pod) for pod in ("one", "other"))
    one.write("mine")
    other.write("another")
    assert entries(fake_api) == {"one": "mine", "other": "another"}
    one.withdraw()
    assert entries(fake_api) == {"other": "another"}


def test_those_of_pods_that_are_gone_are_taken_away(fake_api: FakeApi, api: Api) -> None:
    fake_api.objects[PATH] = {"metadata": {"name": "controllers"}, "data": {"one": "mine", "killed": "x"}}
    fake_api.objects["/api/v1/namespaces/ours/pods/one"] = {"metadata": {"name": "one"}}
    published = Published(api, "ours", "controllers", "one")
    published.forget_gone()
    assert entries(fake_api) == {"one": "mine"}
    count = len(fake_api.requests)
    published.forget_gone()
    assert not [method for method, _, _ in fake_api.requests[count:] if method != "GET"]
