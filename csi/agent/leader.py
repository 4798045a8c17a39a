"""What one controller of a cluster does for all: ThinPoolNodes made and let go, ThinPools and orphans told of."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from csi.agent.orphans import Orphans
from csi.agent.placing import POOL_FINALIZER, Placing, place
from csi.agent.speaking import speak
from csi.agent.threads import Threads
from csi.errors import BusyError, DriverError, ExistsError, NotFoundError
from csi.kube.api import Api, Object, Resource
from csi.kube.event import Events
from csi.kube.handles import named
from csi.kube.resources import (
    API_VERSION,
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUMES,
    SNAPSHOT_CONTENTS,
    THIN_POOL_NODES,
    THIN_POOLS,
    config_maps,
)
from csi.kube.watched import Watched
from csi.model import DRIVER
from csi.settings import read_yaml

_LOOK_EVERY: Final = 30.0
_DEFAULTED: Final = frozenset({"mode", "removalPolicy"})
"""Fields of a ThinPool with a default in its schema: none of them within another."""
_POOL_ID: Final = 10
"""Characters of a handle that are its pool's id."""

log = structlog.get_logger()


class Leader:
    """Works from ``start`` to ``stop``, in a thread of its own."""

    def __init__(
        self,
        api: Api,
        pools: Watched,
        pool_nodes: Watched,
        namespace: str,
        pools_config: str,
        orphans: Orphans,
    ) -> None:
        """``pools_config`` names a ConfigMap whose ``pools.yaml`` lists ThinPools to be made ('': none)."""
        self._api = api
        self._pools = pools
        self._pool_nodes = pool_nodes
        self._changed = threading.Event()
        self._nodes = Watched(api, NODES, self._changed.set)
        self._csi_nodes = Watched(api, CSI_NODES, self._changed.set)
        self._volumes = Watched(api, PERSISTENT_VOLUMES, self._changed.set)
        self._contents = Watched(api, SNAPSHOT_CONTENTS, self._changed.set, optional=True)
        self._own = [self._nodes, self._csi_nodes, self._volumes, self._contents]
        self._listed: Watched | None = None
        if pools_config:
            selector = f"metadata.name={pools_config}"
            self._listed = Watched(api, config_maps(namespace), self._changed.set, field_selector=selector)
            self._own.append(self._listed)
        self._bad_list = ""
        self._orphans = orphans
        self._events = Events(api, DRIVER)
        self._threads = Threads(self._changed.set)
        self._conflicts: dict[str, list[str]] = {}

    def wake(self) -> None:
        """Look soon: a ThinPool or ThinPoolNode has changed."""
        self._changed.set()

    def start(self) -> None:
        """Begin to lead."""
        for watched in self._own:
            watched.start()
        self._threads.run("leader", self._run)
        self._threads.run("orphans", self._look_for_orphans)

    def stop(self) -> None:
        """Lead no more."""
        for watched in self._own:
            watched.stop()
        self._threads.stop()
        self._orphans.forget()

    def _synced(self) -> bool:
        return all(each.synced.is_set() for each in (self._pools, self._pool_nodes, *self._own))

    def _run(self) -> None:
        while not self._threads.ending.is_set():
            self._changed.wait(_LOOK_EVERY)
            self._changed.clear()
            if not self._threads.ending.is_set() and self._synced():
                self._make_listed()
                placing = self._plan()
                self._carry_out(placing)
                self._speak(placing.conflicts)

    def _look_for_orphans(self) -> None:
        while not self._threads.ending.wait(self._orphans.pause):
            if self._synced():
                self._orphans.look(self._pool_nodes.objects(), self._named, self._threads.ending.is_set)

    def _named(self) -> frozenset[str]:
        """Return the handles of all volumes and snapshots that the cluster has."""
        return named(self._volumes.objects(), self._contents.objects())

    def _make_listed(self) -> None:
        """Make the ThinPools of the list, and change those that are otherwise; what is not listed is left alone."""
        objects = self._listed.objects() if self._listed else []
        text = (objects[0].get("data") or {}).get("pools.yaml", "") if objects else ""
        try:
            changes = listed_changes(text, {each["metadata"]["name"]: each for each in self._pools.objects()})
        except ValueError as error:
            if str(error) != self._bad_list:
                log.error("list of pools not read", why=str(error))  # noqa: TRY400 - one line, no traceback
            self._bad_list = str(error)
            return
        self._bad_list = ""
        for name, body in changes.items():
            if self._pools.get(name) is None:
                self._try("create", lambda body=body: self._api.create(THIN_POOLS, body))  # type: ignore[misc]
            else:
                self._try("change", lambda name=name, body=body: self._api.patch(THIN_POOLS, name, body))  # type: ignore[misc]

    def _plan(self) -> Placing:
        return place(
            self._pools.objects(),
            self._pool_nodes.objects(),
            {each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in self._nodes.objects()},
            {each["metadata"]["name"] for each in self._csi_nodes.objects() if _has_driver(each)},
            {handle[:_POOL_ID] for handle in self._named() if handle},
            datetime.now(UTC),
        )

    def _carry_out(self, placing: Placing) -> None:
        for body in placing.create:
            self._try("create", lambda body=body: self._api.create(THIN_POOL_NODES, body))  # type: ignore[misc]
        for name in placing.delete:
            self._try("delete", lambda name=name: self._api.delete(THIN_POOL_NODES, name))  # type: ignore[misc]
        for name in placing.let_go:
            self._finalizers(THIN_POOL_NODES, name, [])
        for name in placing.hold:
            self._finalizers(THIN_POOLS, name, [POOL_FINALIZER])
        for name in placing.let_pool_go:
            self._finalizers(THIN_POOLS, name, [])
        for name, status in placing.statuses.items():
            self._try(
                "write status of",
                lambda name=name, status=status: self._api.patch(  # type: ignore[misc]
                    THIN_POOLS, name, {"status": status}, subresource="status"
                ),
            )
        self._tell_conflicts(placing.conflicts)

    def _speak(self, conflicts: Mapping[str, Sequence[str]]) -> None:
        nodes = {each["metadata"]["name"]: each for each in self._nodes.objects()}
        for name, conditions in speak(self._pool_nodes.objects(), nodes, conflicts, datetime.now(UTC)).items():
            known = self._pool_nodes.get(name)
            if known is not None:
                # With the version that was looked at: what the node says meanwhile stands.
                version = known["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}}
                self._try("write status of", lambda name=name, body=body: self._say(name, body))  # type: ignore[misc]

    def _say(self, name: str, body: Object) -> None:
        self._api.patch(THIN_POOL_NODES, name, body, subresource="status")
        log.warning("said in place of the node", object=name, reason=body["status"]["conditions"][0]["reason"])

    def _finalizers(self, resource: Resource, name: str, ours: list[str]) -> None:
        """Have just ``ours`` of our finalizers on the object; those of others stay."""
        watched = self._pools if resource is THIN_POOLS else self._pool_nodes
        known = watched.get(name)
        if known is None:
            return
        metadata = known["metadata"]
        others = [each for each in metadata.get("finalizers", []) if not each.startswith(f"{DRIVER}/")]
        # With the version that was looked at: a finalizer that was added meanwhile is not lost.
        body = {"metadata": {"finalizers": [*others, *ours], "resourceVersion": metadata["resourceVersion"]}}
        self._try("let go of" if not ours else "hold", lambda: self._api.patch(resource, name, body))

    def _try(self, operation: str, call: Callable[[], object]) -> None:
        try:
            call()
        except (ExistsError, NotFoundError, BusyError):
            # Done already, or changed meanwhile: what the watch brings next tells.
            log.debug("overtaken", operation=operation)
        except DriverError as error:
            log.warning("not done", operation=operation, why=str(error))

    def _tell_conflicts(self, conflicts: dict[str, list[str]]) -> None:
        for pool_id, names in conflicts.items():
            if self._conflicts.get(pool_id) == names:
                continue
            note = f"pool {pool_id} is claimed by {' and '.join(names)}: nothing is sent to either"
            log.error("conflict", pool_id=pool_id, objects=names)
            for name in names:
                about = self._pool_nodes.get(name)
                if about is not None:
                    self._events.write(about, "Conflict", note, action="Route", warning=True)
        self._conflicts = conflicts


def listed_changes(text: str, pools: Mapping[str, Object]) -> dict[str, Object]:
    """Return what to create, or to merge into what is there, so that ThinPools are as listed, by name.

    ``text`` is a YAML list of names and specs. Raise ValueError for anything else.
    """
    listed = read_yaml(text) or []
    if not isinstance(listed, list) or not all(map(_is_pool, listed)):
        message = "it is not a list of pools, each with name and spec"
        raise ValueError(message)
    changes: dict[str, Object] = {}
    for each in listed:
        name, spec = each["name"], each["spec"]
        there = pools.get(name)
        if there is None:
            changes[name] = {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": name}, "spec": spec}
            continue
        if change := _change(there["spec"], spec, _DEFAULTED):
            changes[name] = {"spec": change}
    return changes


def _change(there: Object, wanted: Object, kept: Collection[str] = ()) -> Object:
    """Return what makes ``wanted`` of ``there`` when it is merged into it, at every depth None for what is to go.

    That the API has filled in what is ``kept`` is no difference.
    """
    change: Object = {key: None for key in there if wanted.get(key) is None and key not in kept}
    for key, value in wanted.items():
        known = there.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            if inner := _change(known, value):
                change[key] = inner
        elif value is not None and known != value:
            change[key] = value
    return change


def _is_pool(listed: object) -> bool:
    return (
        isinstance(listed, dict)
        and {*listed} == {"name", "spec"}
        and isinstance(listed["name"], str)
        and isinstance(listed["spec"], dict)
    )


def _has_driver(csi_node: Object) -> bool:
    return any(each.get("name") == DRIVER for each in csi_node.get("spec", {}).get("drivers") or [])
