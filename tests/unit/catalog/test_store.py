"""The catalog: intents and outcomes, and what it says of files that are not a catalog of this pool."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from csi.catalog import store
from csi.catalog.database import FILE_NAME
from csi.catalog.row import Counts
from csi.catalog.store import ID_BATCH, Catalog
from csi.errors import DataLossError, DriverError, NoSpaceError, UnavailableError
from csi.model import THIN_ID_LIMIT, FsState, FsType, GroupId, Handle, Kind, PoolId, State, ThinId
from csi.units import KIB, MIB, Bytes
from tests.unit.catalog.drafts import POOL, SIZE, made, snapshot, volume


def test_an_intent_has_its_own_id_and_is_found_by_its_name(catalog: Catalog) -> None:
    (first,), ceiling = catalog.add([volume("a")], covered=1)
    (second,), _ = catalog.add([volume("b")], covered=ceiling)
    assert (first.handle, second.handle) == (Handle(POOL, ThinId(1)), Handle(POOL, ThinId(2)))
    assert ceiling == 1 + ID_BATCH
    assert first.state is State.CREATING
    assert catalog.named(Kind.VOLUME, "a") == first
    assert catalog.named(Kind.SNAPSHOT, "a") is None
    assert catalog.named(Kind.VOLUME, "a", ephemeral=True) is None


def test_a_name_is_taken_once_for_each_kind(catalog: Catalog) -> None:
    made(catalog)
    with pytest.raises(DriverError):
        catalog.add([volume()], covered=0)
    catalog.add([volume(ephemeral=True)], covered=0)
    catalog.add([snapshot(ThinId(1), "v")], covered=0)


def test_a_refused_intent_takes_no_id(catalog: Catalog) -> None:
    first = made(catalog)
    with pytest.raises(DriverError):
        catalog.add([volume("other"), volume("v")], covered=0)
    (second,), _ = catalog.add([volume("other")], covered=0)
    assert second.handle.thin == first.handle.thin + 1


def test_a_deleted_volume_frees_its_name_and_keeps_its_id(catalog: Catalog) -> None:
    first = made(catalog)
    catalog.delete([first])
    assert [device.handle for device in catalog.deleting(10)] == [first.handle]
    second = made(catalog)
    catalog.forget(first)
    third = made(catalog, "w")
    assert len({first.handle, second.handle, third.handle}) == 3
    assert catalog.device(first.handle.thin) is None


def test_what_could_be_lost_raises_the_ceiling(catalog: Catalog) -> None:
    """An older catalog must be known as one: these changes leave no trace in the list of thin devices."""
    device = made(catalog)
    (cut,), _ = catalog.add([snapshot(device.handle.thin)], covered=0)
    members, before = catalog.add([snapshot(device.handle.thin, None)], covered=0, group="g")
    group = members[0].group
    assert group is not None
    ceilings = [before]
    ceilings.append(catalog.formatted(device, FsType.EXT4, covered=0))
    ceilings.append(catalog.grow(device, Bytes(2 * SIZE), covered=0)[1])
    ceilings.append(catalog.snapshot_cut(cut, 5, covered=0)[1])
    ceilings.append(catalog.group_cut(group, 7, covered=0)[1])
    ceilings.append(catalog.emptying(covered=0))
    assert ceilings == list(range(before, before + 6))
    assert catalog.ceiling() == (ceilings[-1], 0)


def test_a_group_is_there_once_all_of_it_is_cut(catalog: Catalog) -> None:
    sources = [made(catalog, "a").handle.thin, made(catalog, "b").handle.thin]
    members, _ = catalog.add([snapshot(source, None) for source in reversed(sources)], covered=0, group="g")
    group = members[0].group
    assert group is not None
    assert int(group) == int(members[0].handle.thin)
    assert catalog.group(group) is None
    (uncut,) = catalog.uncut_groups()
    assert [member.origin for member in uncut.members] == sources[::-1]
    _, wanted, cut = catalog.group_named("g") or pytest.fail("unknown")
    assert (wanted, cut) == (sources[::-1], False)
    done, _ = catalog.group_cut(group, 1234, covered=0)
    assert catalog.group(group) == done
    assert not catalog.uncut_groups()
    assert {(member.state, member.created) for member in done.members} == {(State.READY, 1234)}
    catalog.delete(done.members, group=group)
    assert catalog.group(group) is None
    assert catalog.group_named("g") is None
    assert len(catalog.deleting(10)) == 2


def test_the_life_of_a_file_system_is_kept(catalog: Catalog, tmp_path: Path) -> None:
    device = made(catalog)
    catalog.formatting(device)
    with _reopened(catalog, tmp_path) as again:
        assert again.device(device.handle.thin) == replace(device, fs_state=FsState.FORMATTING)


def test_what_is_recorded_outlives_the_process(catalog: Catalog, tmp_path: Path) -> None:
    device = made(catalog)
    catalog.formatted(device, FsType.XFS, covered=0)
    with _reopened(catalog, tmp_path) as again:
        expected = replace(device, fs_state=FsState.FORMATTED, fs_type=FsType.XFS)
        assert again.device(device.handle.thin) == expected
        assert again.counts() == Counts(1, 0, 0, 0, 0, SIZE)


def test_ids_end_and_say_so(tmp_path: Path) -> None:
    with closing(Catalog.create(tmp_path, POOL, Bytes(64 * KIB), THIN_ID_LIMIT - 1)) as catalog:
        assert catalog.ids_left() == 1
        made(catalog)
        assert catalog.ids_left() == 0
        with pytest.raises(NoSpaceError, match="used up"):
            made(catalog, "w")


def test_a_start_hands_out_nothing_below_the_kernels_number(catalog: Catalog) -> None:
    made(catalog)
    catalog.begin_at(500)
    assert made(catalog, "w").handle.thin == 500


def test_a_creation_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"half")
    (tmp_path / f"{FILE_NAME}.new-wal").write_bytes(b"half")
    Catalog.create(tmp_path, POOL, Bytes(64 * KIB), 1).close()
    assert sorted(os.listdir(tmp_path)) == [FILE_NAME]


def test_a_stand_in_is_not_on_disk() -> None:
    with closing(Catalog.create(None, POOL, Bytes(64 * KIB), 0)) as catalog:
        assert not catalog.on_disk
        assert not catalog.devices()


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 10_000])
def test_what_is_no_database_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(DataLossError, match="check --rebuild"):
        Catalog.open(tmp_path, POOL)


def test_damage_in_the_middle_is_found(catalog: Catalog, tmp_path: Path) -> None:
    for number in range(200):
        made(catalog, f"volume-{number}")
    catalog.close()
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(8192))
    with pytest.raises(DataLossError, match="check --rebuild"):
        Catalog.open(tmp_path, POOL)


def test_a_catalog_of_another_pool_or_version_is_not_given_up(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    with pytest.raises(UnavailableError, match="otherpool2"):
        Catalog.open(tmp_path, PoolId("otherpool2"))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UnavailableError, match="version is 99"):
        Catalog.open(tmp_path, POOL)


def test_a_catalog_from_before_templates_is_brought_to_the_present_form(tmp_path: Path) -> None:
    schema = Path(__file__).with_name("schema-1.sql").read_text()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.executescript(f"{schema}; PRAGMA user_version = 1")
        database.execute(
            "INSERT INTO pool (one, pool_id, ceiling, covered, next_id, block_size) VALUES (1, ?, 9, 9, 5, 65536)",
            (POOL,),
        )
        database.execute("INSERT INTO snapshot_group VALUES (3, 'g', '1', 77, 1)")
        database.executemany(
            "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, '', ?, 'formatted', 'ext4', 1, 'auto', 0, 77)",
            [
                (1, "volume", "ready", "v", SIZE, None, None),
                (2, "volume", "deleting", None, SIZE, None, None),
                (3, "snapshot", "ready", None, SIZE, 1, 3),
                (4, "quarantined", "ready", None, SIZE, None, None),
            ],
        )
        database.commit()
        rows = database.execute("SELECT * FROM device").fetchall()
    for _ in range(2):
        catalog = Catalog.open(tmp_path, POOL)
        assert catalog.counts() == Counts(1, 1, 1, 1, 0, SIZE)
        assert catalog.ceiling() == (9, 9)
        group = catalog.group(GroupId(3))
        assert group is not None
        assert [member.handle.thin for member in group.members] == [3]
        catalog.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        assert database.execute("SELECT * FROM device").fetchall() == rows
        fresh = sqlite3.connect(":memory:")
        fresh.executescript(files("csi.catalog").joinpath("schema.sql").read_text())
        for kind in ("table", "index", "trigger"):
            names = "SELECT name FROM sqlite_schema WHERE type = ? ORDER BY name"
            assert database.execute(names, (kind,)).fetchall() == fresh.execute(names, (kind,)).fetchall()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    catalog = Catalog.open(tmp_path, POOL)
    (template,), _ = catalog.add([replace(volume(None), kind=Kind.TEMPLATE)], covered=9)
    assert template.handle.thin == 5
    catalog.close()


def test_a_catalog_whose_migration_is_cut_short_is_as_it_was(catalog: Catalog, tmp_path: Path) -> None:
    device = made(catalog)
    catalog.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("PRAGMA user_version = 1")
    # The pool's table has its column already, so the first step fails.
    with pytest.raises(UnavailableError, match="duplicate column"):
        Catalog.open(tmp_path, POOL)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("PRAGMA user_version = 2")
    with closing(Catalog.open(tmp_path, POOL)) as again:
        assert again.device(device.handle.thin) == device


def test_nobody_else_opens_it(catalog: Catalog, tmp_path: Path) -> None:
    made(catalog)
    with pytest.raises(UnavailableError, match="locked"):
        Catalog.open(tmp_path, POOL)


class TestRebuild:
    def test_what_agrees_stays_as_it_is(self, catalog: Catalog) -> None:
        device = made(catalog)
        catalog.formatted(device, FsType.EXT4, covered=0)
        before = catalog.devices()
        assert catalog.rebuild({device.handle.thin: Bytes(MIB)}) == []
        assert catalog.devices() == before

    def test_a_template_goes(self, catalog: Catalog) -> None:
        rows = [replace(volume(None), kind=Kind.TEMPLATE, state=state) for state in State if state is not State.LOST]
        devices, _ = catalog.add([*rows, rows[2]], covered=0)
        lines = catalog.rebuild({device.handle.thin: Bytes(MIB) for device in devices[:-1]})
        assert len(lines) == 4
        assert catalog.devices() == catalog.deleting(10)
        assert catalog.device(devices[-1].handle.thin) is None

    def test_a_fresh_file_system_may_have_been_used_since(self, catalog: Catalog) -> None:
        (device,), _ = catalog.add([replace(volume(), state=State.READY, fs_state=FsState.FRESH)], covered=0)
        (line,) = catalog.rebuild({device.handle.thin: Bytes(MIB)})
        assert "may have been used" in line
        assert catalog.devices() == [replace(device, fs_state=FsState.FORMATTED)]

    def test_a_stranger_is_quarantined(self, catalog: Catalog) -> None:
        (line,) = catalog.rebuild({ThinId(77): Bytes(5 * MIB)})
        assert "00004d" in line
        (device,) = catalog.devices()
        assert (device.kind, device.size, device.fs_state) == (Kind.QUARANTINED, 5 * MIB, FsState.UNKNOWN)
        assert catalog.counts() == Counts(0, 0, 0, 1, 0, Bytes(0))

    def test_what_is_missing_is_lost_and_keeps_its_name(self, catalog: Catalog) -> None:
        device = made(catalog)
        (line,) = catalog.rebuild({})
        assert "lost" in line
        found = catalog.named(Kind.VOLUME, "v")
        assert found is not None
        assert (found.handle, found.state) == (device.handle, State.LOST)
        assert catalog.rebuild({}) == []

    def test_what_was_never_made_is_dropped(self, catalog: Catalog) -> None:
        catalog.add([volume()], covered=0)
        assert len(catalog.rebuild({})) == 1
        assert not catalog.devices()

    @pytest.mark.parametrize("formatting", [False, True])
    def test_what_may_have_been_formatted_is_never_formatted(self, catalog: Catalog, formatting: bool) -> None:
        device = made(catalog)
        if formatting:
            catalog.formatting(device)
        catalog.rebuild({device.handle.thin: Bytes(0)})
        (found,) = catalog.devices()
        assert found.fs_state is FsState.UNKNOWN

    def test_a_cut_that_was_under_way_is_quarantined(self, catalog: Catalog) -> None:
        source = made(catalog).handle.thin
        (cut,), _ = catalog.add([snapshot(source)], covered=0)
        members, _ = catalog.add([snapshot(source, None)] * 2, covered=0, group="g")
        thins = [source, cut.handle.thin, *(member.handle.thin for member in members)]
        catalog.rebuild(dict.fromkeys(thins, Bytes(0)))
        kinds = [device.kind for device in catalog.devices()]
        assert kinds == [Kind.VOLUME, Kind.QUARANTINED, Kind.QUARANTINED, Kind.QUARANTINED]
        assert not catalog.uncut_groups()
        assert not catalog.devices(state=State.CUTTING)

    def test_a_size_is_raised_to_what_is_mapped(self, catalog: Catalog) -> None:
        device = made(catalog)
        catalog.rebuild({device.handle.thin: Bytes(2 * SIZE)})
        assert catalog.counts().virtual == 2 * SIZE

    def test_what_was_deleted_stays_so(self, catalog: Catalog) -> None:
        device = made(catalog)
        catalog.delete([device])
        assert catalog.rebuild({device.handle.thin: SIZE}) == []
        assert [each.state for each in catalog.devices()] == [State.DELETING]


@contextmanager
def _reopened(catalog: Catalog, directory: Path) -> Iterator[Catalog]:
    catalog.close()
    with closing(Catalog.open(directory, POOL)) as again:
        yield again


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_devices_are_read_a_few_at_a_time_each_once(
    catalog: Catalog, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_READ", 2)
    devices = [made(catalog, f"v{number}") for number in range(count)]
    assert list(catalog.each()) == devices == catalog.devices()
    assert list(catalog.each(after=ThinId(2))) == devices[2:]


def test_what_is_deleted_while_the_devices_are_read_does_not_keep_the_rest_away(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_READ", 2)
    devices = [made(catalog, f"v{number}") for number in range(5)]
    seen = []
    for device in catalog.each(kind=Kind.VOLUME, state=State.READY):
        seen.append(device)
        catalog.delete([device])
    assert seen == devices
    assert list(catalog.each(state=State.READY)) == []
