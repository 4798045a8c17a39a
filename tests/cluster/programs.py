"""The cluster's programs, built by ``tests/tools/setup cluster``."""

import os
import subprocess
from dataclasses import dataclass
from typing import Final

from tests.guest.machine import ROOT

_BUILD_LIMIT: Final = 2400.0

SIDECARS: Final = {
    "csi-provisioner": "github.com/kubernetes-csi/external-provisioner/v6",
    "csi-resizer": "github.com/kubernetes-csi/external-resizer/v2",
    "csi-snapshotter": "github.com/kubernetes-csi/external-snapshotter/v8",
}
"""The side-cars that the chart uses, and the Go modules whose versions are theirs."""


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    directory: str

    def path(self, name: str) -> str:
        """Return the path of a program."""
        return os.path.join(self.directory, "bin", name)

    @property
    def snapshot_crds(self) -> str:
        """The directory of the snapshots' custom resource definitions, for ``kubectl apply -k``."""
        return os.path.join(self.directory, "crds")

    def sidecar_image(self, name: str) -> str:
        """Return the name of a side-car's image as it is published: the release has its module's version."""
        with open(os.path.join(self.directory, "versions")) as file:
            versions = dict(words for words in map(str.split, file) if len(words) == 2)
        return f"registry.k8s.io/sig-storage/{name}:{versions[SIDECARS[name]]}"


def programs() -> Programs:
    """Build what is missing, and tell where everything is."""
    setup = os.path.join(ROOT, "tests/tools/setup")
    done = subprocess.run([setup, "cluster"], stdout=subprocess.PIPE, text=True, check=True, timeout=_BUILD_LIMIT)
    return Programs(done.stdout.strip())
