"""Which handles the cluster's objects name."""

from csi.kube.handles import snapshot_handle, volume_handle

DRIVER = "thinpool-csi.dev"


def test_handles_are_those_of_our_own_objects() -> None:
    assert volume_handle({"spec": {"csi": {"driver": DRIVER, "volumeHandle": "h"}}}) == "h"
    assert volume_handle({"spec": {"csi": {"driver": "other", "volumeHandle": "h"}}}) == ""
    assert volume_handle({"spec": {"hostPath": {}}}) == ""
    content = {"spec": {"driver": DRIVER, "source": {"volumeHandle": "v"}}, "status": {"snapshotHandle": "s"}}
    assert snapshot_handle(content) == "s"
    assert snapshot_handle({"spec": {"driver": DRIVER, "source": {"volumeHandle": "v"}}}) == "v"
    assert snapshot_handle({"spec": {"driver": "other", "source": {"snapshotHandle": "s"}}}) == ""
