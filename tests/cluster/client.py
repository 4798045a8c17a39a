"""kubectl and Helm in the cluster's namespace, as its administrator."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from csi.rpc.trust import Own
from tests.cluster import network
from tests.cluster.programs import Programs
from tests.guest.machine import ROOT

_LIMIT: Final = 60.0
_TICK: Final = 0.5
_SLOWER: Final = 3.0
"""So many times as long as is said here anything may take: machines that test are slow at times."""
_LOST: Final = (
    *("TLS handshake timeout", "connection refused", "i/o timeout", "error dialing backend", "etcdserver:"),
    *("unable to upgrade connection", "http2: client connection lost", "unexpected EOF", "still running after"),
)
"""What kubectl says where its connection was lost, and not the request refused."""

Found = TypeVar("Found")


class CommandError(Exception):
    """A command failed; the message holds what it said."""


class Client:
    """Commands on the cluster whose API server is in ``namespace``. ``home`` is a directory for what they keep."""

    def __init__(self, programs: Programs, namespace: str, kubeconfig: str, home: str) -> None:
        self._programs = programs
        self._inside = network.inside(namespace)
        self._environment = {
            "PATH": f"{programs.path('')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "KUBECONFIG": kubeconfig,
            "HOME": home,
            "LC_ALL": "C.UTF-8",
        }

    def kubectl(self, *words: str, input: str = "", limit: float = _LIMIT, again: bool = True) -> str:  # noqa: A002 - as subprocess.run
        """Run kubectl and return its standard output. Raise CommandError if it fails or takes longer than ``limit``.

        ``again``: once more where the connection was lost.
        """
        try:
            return self._output(["kubectl", *words], input, limit)
        except CommandError as error:
            if not again or not any(text in str(error) for text in _LOST):
                raise
        return self._output(["kubectl", *words], input, limit)

    def refused(self, *words: str) -> str:
        """Run kubectl, see that it fails, and return what it says of that."""
        try:
            self.kubectl(*words)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"not refused: kubectl {shlex.join(words)}")

    def helm(self, *words: str, input: str = "", limit: float = 600.0) -> str:  # noqa: A002 - as subprocess.run
        """Run Helm likewise."""
        return self._output(["helm", *words], input, limit)

    def apply(self, *objects: object, limit: float = _LIMIT) -> str:
        """Apply objects: each a text of YAML, or what a text would say."""
        texts = [thing if isinstance(thing, str) else json.dumps(thing) for thing in objects]
        return self.kubectl("apply", "-f", "-", input="\n---\n".join(texts), limit=limit)

    def get(self, *words: str) -> Any:  # noqa: ANN401 - the API's objects
        """Return what ``kubectl get`` finds, an object or a List, as it is in the API."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def patch(self, path: str, body: object, token: str) -> Any:  # noqa: ANN401 - the API's objects
        """Send a merge patch as ``token``'s owner; return the object or the Status that the API server answers."""
        return json.loads(self._call("patch", url=f"https://{network.GATEWAY}{path}", token=token, body=body))

    def probe(self, address: str, node: str, own: Own | None) -> str:
        """Call a node (its certificates are ``node``) as a controller with the certificate of ``own`` would.

        Return the code.
        """
        key, certificate = (own.used().key.decode(), own.used().pem.decode()) if own else ("", "")
        return self._call("probe", address=address, node=node, key=key, certificate=certificate).strip()

    def _call(self, what: str, **said: object) -> str:
        argv = [*self._inside, sys.executable, "-m", "tests.cluster.caller", what]
        done = subprocess.run(
            argv, input=json.dumps(said), stdout=subprocess.PIPE, text=True, check=True, timeout=_LIMIT, cwd=ROOT
        )
        return done.stdout

    def wait(self, what: str, condition: str, *words: str, limit: float = 120.0) -> None:
        """Wait until ``what`` (``pod/a``) meets ``condition`` (``condition=Ready``, ``delete``, ``jsonpath=…``)."""
        seconds = f"--timeout={limit * _SLOWER:.0f}s"
        self.kubectl("wait", what, f"--for={condition}", seconds, *words, limit=limit * _SLOWER + _LIMIT)

    def _output(self, argv: Sequence[str], text: str, limit: float) -> str:
        try:
            done = subprocess.run(
                [*self._inside, self._programs.path(argv[0]), *argv[1:]],
                input=text,
                capture_output=True,
                text=True,
                check=False,
                timeout=limit,
                env=self._environment,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{shlex.join(argv)}: still running after {limit:g} s") from error
        if done.returncode:
            raise CommandError(f"{shlex.join(argv)}: status {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout


def until(what: str, found: Callable[[], Found], *, limit: float) -> Found:
    """Call ``found`` until what it returns is true, and return that.

    What it raises as CommandError or AssertionError counts as not yet. Raise TimeoutError, with what was found last.
    """
    end = time.monotonic() + limit * _SLOWER
    last: object = None
    while True:
        try:
            last = result = found()
            if result:
                return result
        except (CommandError, AssertionError) as error:
            last = error
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit * _SLOWER:g} s: {what}; last: {last}")
        time.sleep(_TICK)
