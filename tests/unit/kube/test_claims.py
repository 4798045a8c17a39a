"""What a cluster's objects say of volumes and snapshots."""

from typing import Any

import pytest

from csi.errors import InvalidRequestError
from csi.kube.claims import claims
from csi.model import Claim, FsType, GroupId, Handle, Kind, PoolId, ThinId
from csi.units import GIB, MIB, Bytes
from tests.unit.kube.objects import POOL, persistent_volume, snapshot_content

VOLUME = Handle(PoolId(POOL), ThinId(7))
SNAPSHOT = Handle(PoolId(POOL), ThinId(9))


def test_a_volume_and_its_snapshot_are_told_of_by_their_objects() -> None:
    assert claims([persistent_volume(), snapshot_content()]) == [
        Claim(VOLUME, Kind.VOLUME, "pvc-7", Bytes(64 * MIB), FsType.XFS),
        Claim(SNAPSHOT, Kind.SNAPSHOT, "snapshot-uid-9", Bytes(64 * MIB), source=VOLUME, created=1700000000000000000),
    ]


def test_a_raw_block_volume_has_no_file_system_and_a_size_is_whole_sectors() -> None:
    (claim,) = claims([persistent_volume(volumeMode="Block", capacity={"storage": "100M"})])
    assert (claim.fs_type, claim.size % 512, claim.size >= 100_000_000) == (None, 0, True)


def test_a_member_of_a_group_is_known_by_the_group() -> None:
    (claim,) = claims([snapshot_content(volumeGroupSnapshotHandle=f"{POOL}-g00000008")])
    assert (claim.group, claim.name) == (GroupId(8), None)


def test_a_moment_may_be_told_as_text() -> None:
    (claim,) = claims([snapshot_content(creationTime="2026-01-02T03:04:05Z")])
    assert claim.created == 1767323045 * 10**9


def test_objects_of_others_and_snapshots_without_a_handle_say_nothing() -> None:
    being_cut = snapshot_content()
    del being_cut["status"]
    foreign = persistent_volume(csi={"driver": "other.example", "volumeHandle": str(VOLUME)})
    assert claims([being_cut, foreign, persistent_volume(csi=None), {"kind": "Secret"}]) == []


@pytest.mark.parametrize(
    "objects",
    [
        [persistent_volume(capacity={"storage": "1 Mango"})],
        [persistent_volume(capacity={})],
        [{"kind": "PersistentVolume", "metadata": {"name": "p"}}],
        [snapshot_content(restoreSize="much")],
        ["text"],
        [persistent_volume(), persistent_volume(volumeMode="Block")],
        [snapshot_content(9, 7), snapshot_content(9, 8)],
        [persistent_volume(7), snapshot_content(7)],
    ],
)
def test_what_is_wrong_or_told_in_two_ways_is_refused(objects: list[Any]) -> None:
    with pytest.raises(InvalidRequestError):
        claims(objects)


def test_two_objects_of_one_volume_or_snapshot_say_it_together() -> None:
    """As of a snapshot that another namespace may use too."""
    cut, lent = snapshot_content(), snapshot_content(restoreSize=0)
    lent["spec"]["source"] = {"snapshotHandle": cut["status"]["snapshotHandle"]}
    assert claims([lent, cut]) == claims([cut, lent]) == claims([cut])
    (volume,) = claims([persistent_volume(), persistent_volume(capacity={"storage": "1Gi"})])
    assert volume.size == GIB
