"""Events: what happened to an object, for people who look at it."""

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from csi.errors import DriverError
from csi.kube.api import Api
from csi.kube.resources import events

_NOTE: Final = 1024
"""The API's limit for an event's text."""
_NAMESPACE: Final = "default"
"""Where events of objects without a namespace belong (apimachinery's convention)."""

log = structlog.get_logger()


class Events:
    """Writes events in the name of ``component`` on ``instance``. One that cannot be written is logged and dropped."""

    def __init__(self, api: Api, component: str, instance: str = "") -> None:
        self._api = api
        self._component = component
        self._instance = instance or os.uname().nodename

    def write(self, about: Mapping[str, Any], reason: str, note: str, *, action: str, warning: bool) -> None:
        """Say that ``reason`` (CamelCase) holds for the object ``about``."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", _NAMESPACE)
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "note": note[:_NOTE],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata.get("uid", ""),
            },
        }
        try:
            self._api.create(events(namespace), body)
        except DriverError as error:
            log.warning("event not written", reason=reason, why=str(error))
