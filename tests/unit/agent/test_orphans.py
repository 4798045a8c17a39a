"""What counts as an orphan, when it is told of, and that a silent node hides none."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from csi.agent.orphans import Held, Orphans, reported
from csi.errors import UnavailableError
from csi.kube.api import Api
from tests.unit.kube.fake import FakeApi

A, B = "aaaaaaaaaa", "bbbbbbbbbb"
VOLUME = Held(f"{A}-00000001", "Volume")
MEMBER = Held(f"{A}-00000002", "Snapshot", f"{A}-g00000002")
OTHER = Held(f"{B}-00000001", "Volume")
GRACE = timedelta(minutes=5)
LIMIT = 20.0
PATH = "/apis/thinpool-csi.dev/v1alpha1/thinpoolnodes"


class Scene:
    """Two nodes with a pool each, in a cluster that names what is in ``named``."""

    def __init__(self, fake: FakeApi, api: Api) -> None:
        self.fake = fake
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.held: dict[str, list[Held] | None] = {"a": [], "b": []}
        self.named: set[str] = set()
        self.ended = False
        for node, pool_id in (("a", A), ("b", B)):
            name = f"fast.{node}"
            fake.objects[f"{PATH}/{name}"] = {
                "apiVersion": "thinpool-csi.dev/v1alpha1",
                "kind": "ThinPoolNode",
                "metadata": {"name": name, "uid": name},
                "spec": {"poolName": "fast", "nodeName": node},
                "status": {"poolID": pool_id},
            }
        self.registry = CollectorRegistry()
        gauge = Gauge("orphans", "Some.", ("pool", "node"), registry=self.registry)
        self.orphans = Orphans(api, self._list, gauge, GRACE, lambda: self.now)

    def _list(self, node: str) -> Iterator[Held]:
        found = self.held[node]
        if found is None:
            raise UnavailableError("reach", node, "it does not answer")
        return iter(found)

    def look(self, later: timedelta = timedelta()) -> None:
        self.now += later
        self.orphans.look(self.pool_nodes(), lambda: self.named, lambda: self.ended)

    def pool_nodes(self) -> list[dict[str, Any]]:
        return [each for path, each in sorted(self.fake.objects.items()) if path.startswith(PATH)]

    def told(self) -> list[str]:
        return [each["handle"] for each in reported(self.pool_nodes())]

    def events(self) -> list[dict[str, Any]]:
        return [each for path, each in self.fake.objects.items() if "/events/" in path]

    def figure(self, node: str) -> float | None:
        return self.registry.get_sample_value("orphans", {"pool": "fast", "node": node})


@pytest.fixture
def scene(fake_api: FakeApi, api: Api) -> Scene:
    return Scene(fake_api, api)


def test_what_has_no_object_is_told_of_after_a_while_with_one_event(scene: Scene) -> None:
    scene.held["a"] = [VOLUME]
    scene.look()
    scene.look(GRACE - timedelta(seconds=1))
    assert not scene.told()
    scene.look(timedelta(seconds=1))
    scene.look(timedelta(hours=1))
    (told,) = reported(scene.pool_nodes())
    assert told == {
        "handle": VOLUME.handle,
        "kind": "Volume",
        "since": "2026-01-01T00:00:00Z",
        "pool": "fast",
        "node": "a",
    }
    (event,) = scene.events()
    assert (event["reason"], event["regarding"]["name"]) == ("OrphansFound", "fast.a")
    assert VOLUME.handle in event["note"]
    assert (scene.figure("a"), scene.figure("b")) == (1, 0)


def test_what_an_object_names_is_none_and_what_gets_one_is_none_any_more(scene: Scene) -> None:
    scene.held["a"], scene.named = [VOLUME], {VOLUME.handle}
    scene.look()
    scene.look(GRACE)
    assert not scene.told()
    scene.named = set()
    scene.look()
    scene.look(GRACE)
    assert scene.told() == [VOLUME.handle]
    scene.named = {VOLUME.handle}
    scene.look()
    assert not scene.told()
    assert scene.figure("a") == 0


def test_what_was_deleted_is_forgotten_and_another_of_its_handle_waits_anew(scene: Scene) -> None:
    scene.held["a"] = [VOLUME]
    scene.look()
    scene.held["a"] = []
    scene.look(GRACE)
    scene.held["a"] = [VOLUME]
    scene.look()
    assert not scene.told()


def test_of_a_node_that_is_silent_nothing_new_is_said_and_nothing_is_forgotten(scene: Scene) -> None:
    scene.held["a"], scene.held["b"] = [VOLUME], [OTHER]
    scene.look()
    scene.held["a"] = None
    scene.look(GRACE)
    assert scene.told() == [OTHER.handle]
    scene.held["a"] = [VOLUME]
    scene.look()
    assert scene.told() == [VOLUME.handle, OTHER.handle]
    scene.held["a"] = None
    scene.look()
    assert scene.told() == [VOLUME.handle, OTHER.handle]


def test_a_lost_pool_and_one_that_was_not_made_are_not_asked_for(scene: Scene) -> None:
    first, second = scene.pool_nodes()
    first["spec"]["lost"] = True
    second["status"] = {}
    scene.held = {}
    scene.look()
    assert not scene.told()


def test_the_next_controller_goes_on_with_what_was_told(scene: Scene, api: Api) -> None:
    scene.held["a"] = [MEMBER]
    scene.look()
    scene.look(GRACE)
    (before,) = reported(scene.pool_nodes())
    assert before["group"] == MEMBER.group
    gauge = Gauge("orphans", "Some.", ("pool", "node"), registry=CollectorRegistry())
    scene.orphans = Orphans(api, scene._list, gauge, GRACE, lambda: scene.now)
    scene.look(timedelta(minutes=1))
    assert reported(scene.pool_nodes()) == [before]
    assert len(scene.events()) == 1


def test_a_controller_that_no_longer_leads_shows_no_figures(scene: Scene) -> None:
    scene.look()
    assert scene.figure("a") == 0
    scene.orphans.forget()
    assert scene.figure("a") is None


def test_what_a_node_answers_when_another_controller_leads_is_not_told(scene: Scene, api: Api) -> None:
    asked, over = threading.Event(), threading.Event()

    def held(node: str) -> Iterator[Held]:
        asked.set()
        assert over.wait(LIMIT)
        return scene._list(node)

    gauge = Gauge("orphans", "Some.", ("pool", "node"), registry=CollectorRegistry())
    # Told of at once, if at all.
    scene.orphans = Orphans(api, held, gauge, timedelta(), lambda: scene.now)
    scene.held["a"] = [VOLUME]
    look = threading.Thread(target=scene.look)
    look.start()
    assert asked.wait(LIMIT)
    scene.ended = True
    scene.orphans.forget()
    over.set()
    look.join(LIMIT)
    assert not scene.told()
    assert not [sample for metric in gauge.collect() for sample in metric.samples]
    assert not scene.orphans._since


def test_who_leads_no_more_tells_of_no_further_pool(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.held["a"], scene.held["b"] = [VOLUME], [OTHER]
    scene.look()
    patch = scene.orphans._api.patch

    def last(*words: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401
        scene.ended = True
        return patch(*words, **more)

    monkeypatch.setattr(scene.orphans._api, "patch", last)
    scene.look(GRACE)
    assert scene.told() == [VOLUME.handle]
