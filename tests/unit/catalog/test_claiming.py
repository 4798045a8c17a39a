"""What the cluster says of devices that the catalog does not know."""

import pytest

from csi.catalog.row import Counts
from csi.catalog.store import Catalog
from csi.model import Claim, FsState, FsType, GroupId, Handle, Kind, State, ThinId
from csi.units import MIB, Bytes
from tests.unit.catalog.drafts import POOL, SIZE, made, volume


def claim(thin: int, **fields: object) -> Claim:
    """Return the claim of a volume with an ext4."""
    told: dict[str, object] = {"kind": Kind.VOLUME, "name": f"pvc-{thin}", "size": SIZE, "fs_type": FsType.EXT4}
    return Claim(Handle(POOL, ThinId(thin)), **(told | fields))  # type: ignore[arg-type]


def snapshot(thin: int, of: int, **fields: object) -> Claim:
    source = Handle(POOL, ThinId(of))
    told = {"kind": Kind.SNAPSHOT, "name": f"snapshot-{thin}", "fs_type": None, "source": source}
    return claim(thin, **(told | fields))


def present(*thins: int, size: int = MIB) -> dict[ThinId, Bytes]:
    return {ThinId(thin): Bytes(size) for thin in thins}


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
def test_what_is_claimed_is_a_volume_or_a_snapshot_again_and_the_rest_stays_in_quarantine(
    catalog: Catalog, later: bool
) -> None:
    claims = [claim(1), claim(2, fs_type=None), snapshot(3, 1, created=5)]
    if later:
        catalog.rebuild(present(1, 2, 3, 4))
        said = catalog.claim(claims)
    else:
        said = catalog.rebuild(present(1, 2, 3, 4), claims)
    assert sum("named by the cluster" in line for line in said) == 3
    fs, block, cut, rest = catalog.devices()
    assert (fs.kind, fs.name, fs.size, fs.fs_state) == (Kind.VOLUME, "pvc-1", SIZE, FsState.UNKNOWN)
    assert (block.fs_state, block.fs_type) == (FsState.NONE, None)
    assert (cut.kind, cut.name, cut.origin, cut.created) == (Kind.SNAPSHOT, "snapshot-3", 1, 5)
    assert cut.content_source == str(fs.handle)
    assert rest.kind is Kind.QUARANTINED
    assert catalog.counts() == Counts(2, 1, 0, 1, 0, Bytes(2 * SIZE))
    assert catalog.claim(claims) == []


def test_a_size_is_never_less_than_what_is_mapped(catalog: Catalog) -> None:
    catalog.rebuild(present(1, size=3 * SIZE), [claim(1)])
    assert catalog.devices()[0].size == 3 * SIZE


def test_what_is_claimed_and_not_in_the_pool_is_lost_and_its_id_never_used_again(catalog: Catalog) -> None:
    catalog.rebuild({}, [claim(500)])
    (device,) = catalog.devices()
    assert (device.state, device.name) == (State.LOST, "pvc-500")
    assert made(catalog, "new").handle.thin > 500


def test_what_the_catalog_knows_is_not_changed_by_a_claim(catalog: Catalog) -> None:
    known = made(catalog)
    catalog.delete([made(catalog, "deleted")])
    before = catalog.devices()
    thins = [device.handle.thin for device in before]
    assert catalog.claim([claim(thin, size=Bytes(9 * SIZE)) for thin in (*thins, 77)]) == []
    assert catalog.devices() == before
    catalog.rebuild({known.handle.thin: Bytes(0)}, [claim(known.handle.thin, name="other")])
    assert catalog.devices()[0].name == known.name


def test_a_name_that_is_taken_stays_with_its_owner(catalog: Catalog) -> None:
    (owner,), _ = catalog.add([volume("pvc-77")], covered=0)
    catalog.rebuild({owner.handle.thin: Bytes(0), **present(77)}, [claim(77)])
    found = catalog.named(Kind.VOLUME, "pvc-77")
    assert found is not None
    assert found.handle == owner.handle
    assert catalog.devices()[1].kind is Kind.VOLUME


def test_members_of_a_group_are_that_group_again(catalog: Catalog) -> None:
    group = GroupId(3)
    catalog.rebuild(
        present(1, 2, 3, 4),
        [claim(1), claim(2), *(snapshot(thin + 2, thin, name=None, group=group) for thin in (1, 2))],
    )
    found = catalog.group(group)
    assert found is not None
    assert [member.handle.thin for member in found.members] == [3, 4]


def test_a_copy_of_a_btrfs_gets_a_uuid_of_its_own(catalog: Catalog) -> None:
    catalog.rebuild(present(1), [claim(1, fs_type=FsType.BTRFS)])
    assert not catalog.devices()[0].fs_unique


def test_a_group_that_has_lost_a_member_is_whole_enough_to_be_deleted(catalog: Catalog) -> None:
    group = GroupId(3)
    catalog.rebuild(
        present(1, 2, 4),
        [claim(1), claim(2), *(snapshot(thin + 2, thin, name=None, group=group) for thin in (1, 2))],
    )
    found = catalog.group(group)
    assert found is not None
    assert [(member.handle.thin, member.state) for member in found.members] == [(3, State.LOST), (4, State.READY)]
    catalog.delete(found.members, group=group)
    assert catalog.group(group) is None


def test_what_is_lost_leaves_a_name_that_is_taken_to_its_owner(catalog: Catalog) -> None:
    (owner,), _ = catalog.add([volume("pvc-77")], covered=0)
    catalog.rebuild({owner.handle.thin: Bytes(0)}, [claim(77)])
    found = catalog.named(Kind.VOLUME, "pvc-77")
    assert found is not None
    assert found.handle == owner.handle
    assert (catalog.devices()[1].state, catalog.devices()[1].name) == (State.LOST, None)


def test_what_was_being_made_and_is_claimed_and_not_there_is_lost(catalog: Catalog) -> None:
    (making,), _ = catalog.add([volume("pvc")], covered=0)
    catalog.rebuild({}, [claim(making.handle.thin)])
    assert [(each.handle, each.state) for each in catalog.devices()] == [(making.handle, State.LOST)]
