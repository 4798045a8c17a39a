"""The resources of the cluster that the driver reads or writes."""

from typing import Final

from csi.kube.api import Resource

GROUP: Final = "thinpool-csi.dev"
API_VERSION: Final = f"{GROUP}/v1alpha1"

THIN_POOLS: Final = Resource(f"/apis/{API_VERSION}", "thinpools")
THIN_POOL_NODES: Final = Resource(f"/apis/{API_VERSION}", "thinpoolnodes")
NODES: Final = Resource("/api/v1", "nodes")
CSI_NODES: Final = Resource("/apis/storage.k8s.io/v1", "csinodes")
PERSISTENT_VOLUMES: Final = Resource("/api/v1", "persistentvolumes")
SNAPSHOT_CONTENTS: Final = Resource("/apis/snapshot.storage.k8s.io/v1", "volumesnapshotcontents")


def config_maps(namespace: str) -> Resource:
    """Return the ConfigMaps of a namespace."""
    return Resource("/api/v1", "configmaps", namespace)


def pods(namespace: str) -> Resource:
    """Return the pods of a namespace."""
    return Resource("/api/v1", "pods", namespace)


def leases(namespace: str) -> Resource:
    """Return the leases of a namespace."""
    return Resource("/apis/coordination.k8s.io/v1", "leases", namespace)


def events(namespace: str) -> Resource:
    """Return the events of a namespace."""
    return Resource("/apis/events.k8s.io/v1", "events", namespace)
