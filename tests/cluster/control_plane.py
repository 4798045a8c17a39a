"""The control plane, on this machine: keys and tokens, etcd, the API server, the controllers and the scheduler."""

import base64
import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from typing import Final

from tests.cluster import network
from tests.cluster.client import Client, until
from tests.cluster.node import GATES
from tests.cluster.process import Process
from tests.cluster.programs import Programs

_LIMIT: Final = 60.0
_READY_LIMIT: Final = 120.0
_GATES: Final = ",".join(f"{name}={str(on).lower()}" for name, on in GATES.items())
_ISSUER: Final = "https://kubernetes.default.svc"


class ControlPlane:
    """A control plane in a namespace, its files in ``directory``; ``users`` are those of nodes, by the node's name."""

    def __init__(self, programs: Programs, namespace: str, directory: str, nodes: Sequence[str]) -> None:
        self._programs = programs
        self._namespace = namespace
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.processes: list[Process] = []
        self._tokens = {name: secrets.token_hex(16) for name in ("admin", "controllers", "scheduler", *nodes)}
        os.makedirs(directory)
        self._write_keys()
        self._write_tokens(nodes)
        for name in ("admin", "controllers", "scheduler"):
            self._write(f"{name}.kubeconfig", self.kubeconfig(name))

    @property
    def certificate(self) -> str:
        """The file of the authority that signs for the API server."""
        return self._path("ca.crt")

    def kubeconfig(self, user: str) -> str:
        """Return how ``user`` (a node's name, ``admin`` …) reaches the API server."""
        with open(self.certificate) as file:
            authority = file.read()
        return _kubeconfig(authority, self._tokens[user])

    def kubeconfig_path(self, user: str) -> str:
        """Return where that of one of the control plane's own users is."""
        return self._path(f"{user}.kubeconfig")

    def start(self) -> None:
        """Start etcd and the API server."""
        self._run(
            *("etcd", f"--data-dir={self._path('etcd')}", "--unsafe-no-fsync", "--log-level=warn"),
            *("--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"),
            *("--listen-peer-urls=http://127.0.0.1:2380",),
        )
        self._run(
            "kube-apiserver",
            *("--etcd-servers=http://127.0.0.1:2379", f"--service-cluster-ip-range={network.SERVICES}"),
            *("--bind-address=0.0.0.0", "--secure-port=443", f"--advertise-address={network.GATEWAY}"),
            *(f"--tls-cert-file={self._path('server.crt')}", f"--tls-private-key-file={self._path('server.key')}"),
            *(f"--client-ca-file={self.certificate}", f"--token-auth-file={self._path('tokens')}"),
            f"--kubelet-client-certificate={self._path('client.crt')}",
            f"--kubelet-client-key={self._path('client.key')}",
            "--kubelet-preferred-address-types=InternalIP",
            *(f"--service-account-issuer={_ISSUER}", f"--service-account-key-file={self._path('accounts.key')}"),
            f"--service-account-signing-key-file={self._path('accounts.key')}",
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            *("--allow-privileged=true", f"--feature-gates={_GATES}"),
        )

    def follow(self, client: Client) -> None:
        """Wait for the API server, then start what needs it."""
        until("the API server is ready", lambda: self._ready(client), limit=_READY_LIMIT)
        self._run(
            *("kube-controller-manager", *self._as_user("controllers"), "--leader-elect=false"),
            *(f"--root-ca-file={self.certificate}", "--use-service-account-credentials=true"),
            f"--service-account-private-key-file={self._path('accounts.key')}",
            # A node renews its lease each five seconds (tests/cluster/node.py).
            *("--node-monitor-grace-period=30s", "--node-monitor-period=3s"),
            *("--kube-api-qps=100", "--kube-api-burst=200", f"--feature-gates={_GATES}"),
        )
        self._run("kube-scheduler", *self._as_user("scheduler"), "--leader-elect=false", f"--feature-gates={_GATES}")
        client.kubectl("apply", "--server-side", "-k", self._programs.snapshot_crds)
        client.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=240s", limit=300)
        self._run(
            *("snapshot-controller", f"--kubeconfig={self.kubeconfig_path('admin')}"),
            "--feature-gates=CSIVolumeGroupSnapshot=true",
        )

    def check(self) -> None:
        """Raise EndedError if one of the programs has ended."""
        for process in self.processes:
            process.check()

    def close(self) -> None:
        """End everything, the last first."""
        self._stack.close()

    def _ready(self, client: Client) -> bool:
        self.check()
        return client.kubectl("get", "--raw=/readyz") == "ok"

    def _run(self, name: str, *words: str) -> None:
        argv = [self._programs.path(name), *words]
        process = Process(self._namespace, argv, self._path(f"{name}.log"))
        self.processes.append(self._stack.enter_context(process))

    def _as_user(self, user: str) -> tuple[str, ...]:
        path = self.kubeconfig_path(user)
        return (f"--kubeconfig={path}",)

    def _write_keys(self) -> None:
        ca = self._path("ca")
        _certificate(ca, "/CN=thinpool-csi-tests", "basicConstraints=critical,CA:TRUE")
        names = (
            f"IP:{network.GATEWAY},IP:{network.API},DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        )
        _certificate(self._path("server"), "/CN=kube-apiserver", f"subjectAltName={names}", ca=ca)
        # The API server to the kubelets.
        user = "/O=system:masters/CN=kube-apiserver"
        _certificate(self._path("client"), user, "extendedKeyUsage=clientAuth", ca=ca)
        _openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", self._path("accounts.key"))

    def _write_tokens(self, nodes: Sequence[str]) -> None:
        users = {
            "admin": ("admin", "system:masters"),
            "controllers": ("system:kube-controller-manager", ""),
            "scheduler": ("system:kube-scheduler", ""),
            **{node: (f"system:node:{node}", "system:nodes") for node in nodes},
        }
        lines = [f"{self._tokens[name]},{user},{name},{group}".rstrip(",") for name, (user, group) in users.items()]
        self._write("tokens", "\n".join(lines) + "\n")

    def _write(self, name: str, text: str) -> None:
        with open(self._path(name), "x") as file:
            file.write(text)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


_CURVE: Final = ("-pkeyopt", "ec_paramgen_curve:prime256v1")


def _certificate(path: str, subject: str, extension: str, *, ca: str = "") -> None:
    """Make a key and a certificate of two days: ``path``.key and .crt, signed by ``ca`` or by itself."""
    signer = ("-CA", f"{ca}.crt", "-CAkey", f"{ca}.key") if ca else ()
    _openssl(
        *("req", "-x509", "-newkey", "ec", *_CURVE, "-nodes", "-days", "2", "-subj", subject, "-addext", extension),
        *("-keyout", f"{path}.key", "-out", f"{path}.crt", *signer),
    )


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=_LIMIT)


def _kubeconfig(authority: str, token: str) -> str:
    data = base64.b64encode(authority.encode()).decode()
    server = {"server": f"https://{network.GATEWAY}:443", "certificate-authority-data": data}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": server}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "current-context": "tests",
        }
    )
