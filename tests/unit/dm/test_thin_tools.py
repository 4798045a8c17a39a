"""The thin tools that are installed, on metadata in files: what is sound, what is not, and what can be read of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from csi.dm import thin_tools
from csi.errors import CommandError, KernelError
from csi.model import ThinId
from csi.units import MIB, Bytes
from tests.kernel.metadata import BLOCK, Metadata

EXTENT = Bytes(4 * MIB)
HEADER = '<superblock uuid="" time="1" transaction="9" {}version="2" data_block_size="128" nr_data_blocks="9000">'
# Three devices of 600 mappings each, which is more than one leaf.
MAPPED = {ThinId(thin): 600 for thin in range(3)}

Make = Callable[[], Metadata]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make() -> Metadata:
        lines = [HEADER.format("")]
        for thin, count in MAPPED.items():
            lines.append(
                f'<device dev_id="{thin}" mapped_blocks="{count}" transaction="1" creation_time="0" snap_time="0">'
            )
            first = thin * count
            lines += [
                f'<single_mapping origin_block="{2 * each}" data_block="{first + each}" time="0"/>'
                for each in range(count)
            ]
            lines.append("</device>")
        xml = tmp_path / "made.xml"
        xml.write_text("\n".join([*lines, "</superblock>", ""]))
        file = blank(tmp_path / "metadata")
        thin_tools.restore(xml, str(file))
        return Metadata(str(file), 0, file.stat().st_size)

    return make


def blank(file: Path) -> Path:
    with file.open("wb") as stream:
        stream.truncate(2048 * BLOCK)
    return file


def test_sound_metadata_is_described_and_comes_through_a_dump_as_it_was(make: Make, tmp_path: Path) -> None:
    made = make()
    assert thin_tools.check(made.disk) == ""
    assert thin_tools.superblock_sound(made.disk)
    described = thin_tools.describe(made.disk)
    assert described is not None
    assert described.mapped == MAPPED
    assert thin_tools.dump(made.disk, tmp_path / "all.xml")
    copy = blank(tmp_path / "copy")
    thin_tools.restore(tmp_path / "all.xml", str(copy))
    assert thin_tools.check(str(copy)) == ""
    assert thin_tools.describe(str(copy)) == described


def test_the_kernels_mark_is_seen_and_taken_away(make: Make) -> None:
    made = make()
    made.need_check()
    assert thin_tools.check(made.disk) == ""
    assert thin_tools.needs_check(made.disk)
    described = thin_tools.describe(made.disk)
    assert described is not None
    assert "flags" not in described.header
    assert thin_tools.check(made.disk, clear=True) == ""
    assert not thin_tools.needs_check(made.disk)


def test_of_damaged_mappings_the_other_devices_are_dumped_and_put_together(make: Make, tmp_path: Path) -> None:
    made = make()
    made.damage(made.leaves(1)[1])
    assert "block" in thin_tools.check(made.disk) or "device 1" in thin_tools.check(made.disk)
    assert not thin_tools.dump(made.disk, tmp_path / "all.xml")
    described = thin_tools.describe(made.disk)
    assert described is not None
    files = {thin: tmp_path / f"{thin}.xml" for thin in described.mapped}
    kept = [thin for thin, file in files.items() if thin_tools.dump(made.disk, file, thin=thin)]
    assert kept == [0, 2]
    parts = (files[thin].read_text().splitlines(keepends=True) for thin in kept)
    (tmp_path / "merged.xml").write_text("".join(thin_tools.merged(described.header, parts)))
    copy = blank(tmp_path / "copy")
    thin_tools.restore(tmp_path / "merged.xml", str(copy))
    assert thin_tools.check(str(copy)) == ""
    found = thin_tools.describe(str(copy))
    assert found is not None
    assert (found.header, found.mapped) == (described.header, {thin: MAPPED[thin] for thin in kept})


def test_a_device_that_is_not_there_is_not_dumped(make: Make, tmp_path: Path) -> None:
    assert not thin_tools.dump(make().disk, tmp_path / "7.xml", thin=ThinId(7))


def test_without_a_superblock_nothing_is_described(make: Make) -> None:
    made = make()
    made.damage(0)
    assert "superblock" in thin_tools.check(made.disk)
    assert not thin_tools.superblock_sound(made.disk)
    assert thin_tools.describe(made.disk) is None


def test_a_dump_that_could_not_be_written_is_not_taken_for_damage(make: Make, tmp_path: Path) -> None:
    full = tmp_path / "full.xml"
    full.symlink_to("/dev/full")
    with pytest.raises(CommandError, match="make room"):
        thin_tools.dump(make().disk, full)


def test_metadata_too_large_for_its_place_is_an_error(make: Make, tmp_path: Path) -> None:
    assert thin_tools.dump(make().disk, tmp_path / "all.xml")
    small = tmp_path / "small"
    small.touch()
    os.truncate(small, 4 * BLOCK)
    with pytest.raises(CommandError, match="thin_restore"):
        thin_tools.restore(tmp_path / "all.xml", str(small))


def test_a_superblock_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="read superblock"):
        thin_tools.needs_check(str(tmp_path / "nothing"))


def test_room_is_for_every_mapping_by_itself_in_whole_extents() -> None:
    assert thin_tools.room_for({}, EXTENT) == EXTENT
    million = thin_tools.room_for({ThinId(1): 1_000_000}, EXTENT)
    assert million % EXTENT == 0
    # thin_restore 0.9.0 takes 1 block of 4 KiB for 126 mappings.
    assert million > 1_000_000 // 126 * 4096
