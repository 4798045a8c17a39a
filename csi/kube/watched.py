"""The objects of one kind as they are now: listed once, then watched, for as long as it takes."""

import random
import threading
from collections.abc import Callable
from typing import Final

import structlog

from csi.errors import DriverError, NotFoundError
from csi.kube.api import Api, ExpiredError, Object, Resource

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0

log = structlog.get_logger()


class Watched:
    """A copy of a collection, kept true by a thread of its own; what cannot be reached stays as it was last seen."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        changed: Callable[[], None] = lambda: None,
        *,
        field_selector: str = "",
        optional: bool = False,
    ) -> None:
        """With ``optional`` a kind that the cluster does not have is one of which there is none."""
        self._api = api
        self._resource = resource
        self._changed = changed
        self._selector = field_selector
        self._optional = optional
        self._objects: dict[str, Object] = {}
        self._stop = threading.Event()
        self.synced = threading.Event()
        """Set once the objects were listed."""
        self._thread = threading.Thread(target=self._run, name=f"watch {resource.plural}", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def stop(self) -> None:
        """End with the next event; the thread may sit in a read until then, and holds nothing."""
        self._stop.set()

    def objects(self) -> list[Object]:
        """Return all objects, by name."""
        found = self._objects
        return [found[name] for name in sorted(found)]

    def get(self, name: str) -> Object | None:
        """Return the object of this name."""
        return self._objects.get(name)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list()
                    pause = _FIRST_PAUSE
                version = self._follow(version)
                pause = _FIRST_PAUSE
            except ExpiredError:
                version = ""
            except DriverError as error:
                if self._optional and isinstance(error, NotFoundError):
                    self._objects = {}
                    self.synced.set()
                    self._stop.wait(_LONGEST_PAUSE)
                    continue
                log.warning("watch broken off", resource=self._resource.plural, why=str(error))
                # Half of it by chance, so that not all nodes come back at once.
                self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - guards nothing
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                # A fault of ours; a collection that nobody follows any more would be a worse one.
                log.exception("watch broken off by a fault, goes on", resource=self._resource.plural)
                version = ""
                self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _list(self) -> str:
        objects, version = self._api.all(self._resource, field_selector=self._selector)
        self._objects = {each["metadata"]["name"]: each for each in objects}
        self.synced.set()
        self._changed()
        return version

    def _follow(self, version: str) -> str:
        for kind, each in self._api.watch(self._resource, version, field_selector=self._selector):
            if self._stop.is_set():
                break
            version = each["metadata"]["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            # A new mapping each time: readers hold the one that they have.
            rest = {name: known for name, known in self._objects.items() if name != each["metadata"]["name"]}
            self._objects = rest if kind == "DELETED" else {**rest, each["metadata"]["name"]: each}
            self._changed()
        return version
