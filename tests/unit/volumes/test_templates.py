"""Which templates a pool has: the one used last is kept longest, and one in use is kept."""

from contextlib import ExitStack
from dataclasses import replace

from csi.catalog.claiming import stranger
from csi.model import FsType, Handle, Kind, PoolId, ThinId
from csi.units import MIB, Bytes
from csi.volumes.templates import Shape, Templates

SHAPES = [Shape(FsType.EXT4, Bytes(size * MIB), "mkfs") for size in range(1, 5)]


def _filled() -> Templates:
    templates = Templates()
    templates.fill(
        [
            replace(
                stranger(Handle(PoolId("abcdefghij"), ThinId(number)), shape.size),
                kind=Kind.TEMPLATE,
                fs_type=shape.fs_type,
                mkfs_profile=shape.command,
            )
            for number, shape in enumerate(SHAPES, 1)
        ]
    )
    return templates


def test_a_shape_differs_by_type_size_and_options() -> None:
    templates = _filled()
    known = SHAPES[0]
    assert known in templates
    for other in (
        replace(known, fs_type=FsType.XFS),
        replace(known, size=Bytes(9)),
        replace(known, command="mkfs -O x"),
    ):
        assert other not in templates
        with templates.using(other) as found:
            assert found is None
    with templates.using(None) as found:
        assert found is None


def test_the_least_recently_used_go_first() -> None:
    templates = _filled()
    with templates.using(SHAPES[0]) as found:
        assert found is not None
    spare = templates.take_spare(2)
    assert [Shape.of(device) for device in spare] == [SHAPES[1], SHAPES[2]]
    assert [shape in templates for shape in SHAPES] == [True, False, False, True]
    assert templates.take_spare(2) == []


def test_of_two_of_a_shape_one_is_known() -> None:
    templates = _filled()
    with templates.using(SHAPES[0]) as first:
        assert first is not None
    second = replace(first, handle=Handle(PoolId("abcdefghij"), ThinId(99)))
    templates.add(second)
    with templates.using(SHAPES[0]) as found:
        assert found == first
    assert templates.fill([first, second]) == [first]
    assert templates.fill([]) == []
    assert SHAPES[0] not in templates


def test_one_in_use_stays_until_it_comes_back() -> None:
    templates = _filled()
    with templates.using(SHAPES[1]), ExitStack() as second:
        second.enter_context(templates.using(SHAPES[1]))
        assert len(templates.take_spare(0)) == 3
        second.close()
        assert templates.take_spare(0) == []
        assert SHAPES[1] in templates
    assert [Shape.of(device) for device in templates.take_spare(0)] == [SHAPES[1]]
    assert SHAPES[1] not in templates
