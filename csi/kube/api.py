"""One connection to the cluster's API, and the few verbs that are used, on objects as plain mappings."""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import load_incluster_config
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from csi import __version__
from csi.errors import BusyError, ExistsError, NotFoundError, StateError, UnavailableError

Object = dict[str, Any]
"""An object as the API shows it in JSON."""

WATCH_SECONDS: Final = 300
"""How long the server keeps one watch; it is begun again from where it ended."""
_TIMEOUT: Final = (5.0, 30.0)
"""Seconds to connect, and between two bytes of an answer."""
_WATCH_TIMEOUT: Final = (5.0, WATCH_SECONDS + 30.0)
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
_AGENT: Final = f"thinpool-csi/{__version__}"
_OK, _CREATED, _ACCEPTED, _GONE = 200, 201, 202, 410
_ERRORS: Final = {404: NotFoundError, 409: BusyError, 422: StateError, 403: StateError}


@dataclass(frozen=True)
class Resource:
    """A kind of objects: ``prefix`` is /api/v1 or /apis/<group>/<version>; with ``namespace`` those of one."""

    prefix: str
    plural: str
    namespace: str = ""

    def path(self, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection or of one object."""
        parts = [self.prefix]
        if self.namespace:
            parts += ["namespaces", self.namespace]
        return "/".join(part for part in (*parts, self.plural, name, subresource) if part)


class ExpiredError(Exception):
    """A watch cannot go on from where it was: list again."""


class Api:
    """The connection.

    Every call raises UnavailableError if the cluster cannot be reached or refuses for now, NotFoundError, StateError
    (forbidden or invalid), or BusyError (changed meanwhile; ExistsError for a creation).
    """

    def __init__(self, settings: Configuration) -> None:
        """Connect as ``settings`` say, with none of the library's own retries."""
        settings.retries = False
        self.settings = settings
        # Not the library's ApiClient: what that loads besides, to check models that nobody here uses, takes 8 MiB.
        self.rest = RESTClientObject(settings)
        # Since 3.13 Python refuses authorities without key usage or key identifiers. Many clusters' are so, and
        # every other client takes them.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = settings.verify_ssl
        pool = self.rest.pool_manager.connection_pool_kw
        pool["ssl_context"] = context
        # A watch is silent for minutes: only this tells that its other end is gone.
        pool["socket_options"] = [*HTTPConnection.default_socket_options, *_KEEPALIVE]

    @classmethod
    def connect(cls, kubeconfig: str = "") -> "Api":
        """Connect as the pod's service account, or as ``kubeconfig`` says. Raise UnavailableError."""
        settings = Configuration()
        try:
            if kubeconfig:
                # Only here: it knows every way to log in, and no pod needs one.
                from kubernetes.config.kube_config import load_kube_config  # noqa: PLC0415

                load_kube_config(kubeconfig, client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise UnavailableError("connect to", "the cluster", str(error), way_out="run in a pod") from error
        return cls(settings)

    def get(self, resource: Resource, name: str) -> Object:
        """Return one object."""
        return self._call("get", resource, "GET", name)

    def all(self, resource: Resource, *, field_selector: str = "") -> tuple[list[Object], str]:
        """Return all objects and the version at which this was so."""
        query = [("fieldSelector", field_selector)] if field_selector else []
        found = self._call("list", resource, "GET", query=query)
        return found.get("items", []), found["metadata"]["resourceVersion"]

    def create(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Make an object."""
        try:
            return self._call("create", resource, "POST", body=body)
        except BusyError as error:
            raise ExistsError(error.operation, error.subject, "it is there already") from error

    def patch(self, resource: Resource, name: str, body: Mapping[str, Any], *, subresource: str = "") -> Object:
        """Merge ``body`` into an object (RFC 7396: None removes a field, a list replaces the list)."""
        return self._call("patch", resource, "PATCH", name, subresource=subresource, body=body)

    def delete(self, resource: Resource, name: str, *, uid: str = "") -> None:
        """Delete an object, with ``uid`` only if it is that one still."""
        self._call("delete", resource, "DELETE", name, body={"preconditions": {"uid": uid}} if uid else None)

    def watch(self, resource: Resource, version: str, *, field_selector: str = "") -> Iterator[tuple[str, Object]]:
        """Yield what happens after ``version`` as (ADDED, MODIFIED, DELETED or BOOKMARK, object) until the server ends.

        Raise ExpiredError if the server no longer knows what happened since.
        """
        query = [
            *(("watch", "true"), ("resourceVersion", version), ("allowWatchBookmarks", "true")),
            ("timeoutSeconds", str(WATCH_SECONDS)),
            *([("fieldSelector", field_selector)] if field_selector else []),
        ]
        response = self._send("watch", resource.plural, "GET", resource.path(), query, None, _WATCH_TIMEOUT)
        try:
            if response.status == _GONE:
                raise ExpiredError
            if response.status != _OK:
                self._check("watch", resource.plural, response.status, response.read())
            for line in _lines(response.stream()):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"].get("code") == _GONE:
                        raise ExpiredError
                    raise UnavailableError("watch", resource.plural, str(event["object"].get("message", "")))
                yield event["type"], event["object"]
        except (HTTPError, OSError, ValueError) as error:
            raise UnavailableError("watch", resource.plural, str(error)) from error
        finally:
            response.close()

    def _call(
        self,
        operation: str,
        resource: Resource,
        method: str,
        name: str = "",
        *,
        subresource: str = "",
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Object:
        subject = f"{resource.plural}/{name}" if name else resource.plural
        path = resource.path(name, subresource)
        response = self._send(operation, subject, method, path, query or [], body, _TIMEOUT)
        try:
            text = response.read()
        except (HTTPError, OSError) as error:
            response.close()
            raise UnavailableError(operation, subject, str(error)) from error
        # The connection serves the next call.
        response.release_conn()
        self._check(operation, subject, response.status, text)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise UnavailableError(operation, subject, f"the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise UnavailableError(operation, subject, "the answer is no object")
        return answer

    def _send(
        self,
        operation: str,
        subject: str,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: Mapping[str, Any] | None,
        timeout: tuple[float, float],
    ) -> Any:  # noqa: ANN401 - urllib3's response, with preload_content=False
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": _AGENT}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        url = f"{self.settings.host}{path}"
        if query:
            url += f"?{urlencode(query, quote_via=quote)}"
        try:
            # This reads the account's token again when it is due.
            if (account := self.settings.auth_settings().get("BearerToken")) and account["value"]:
                headers[account["key"]] = account["value"]
            return self.rest.request(method, url, headers, body, _request_timeout=timeout).response  # type: ignore[no-untyped-call]
        except (ApiException, ConfigException, HTTPError, OSError) as error:
            raise UnavailableError(operation, subject, f"the cluster cannot be reached: {error}") from error

    def _check(self, operation: str, subject: str, status: int, text: bytes) -> None:
        if status in {_OK, _CREATED, _ACCEPTED}:
            return
        try:
            why = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            why = text[:200].decode(errors="replace")
        raise _ERRORS.get(status, UnavailableError)(operation, subject, f"HTTP {status}: {why}")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
