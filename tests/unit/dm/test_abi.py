"""Requests and answers of the device-mapper's control device, byte by byte."""

import errno
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.dm import abi
from csi.dm.abi import Flag, Header, Request

_text = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=60)
_name = _text.filter(bool)
_u64 = st.integers(0, 2**64 - 1)
_version = st.tuples(*[st.integers(0, 2**32 - 1)] * 3)


def test_a_request_begins_with_the_kernels_structure() -> None:
    buffer = abi.pack(name="a", uuid="b", flags=Flag.SUSPEND, event_nr=0x6E << 16, target_count=2, payload=b"tail")
    assert len(buffer) == 312 + 4
    assert struct.unpack_from("=IIIIIIiIII", buffer) == (4, 0, 0, 316, 312, 2, 0, 2, 0x6E0000, 0)
    assert buffer[48:50] == b"a\0"
    assert buffer[48 + 128 : 48 + 128 + 2] == b"b\0"
    assert buffer[312:] == b"tail"


def test_request_numbers_carry_direction_size_and_kind() -> None:
    for request in Request:
        assert request & ~0xFF == (3 << 30) | (312 << 16) | (0xFD << 8)


@given(name=_text, uuid=_text, flags=st.integers(0, 2**20 - 1), room=st.integers(0, 10_000), payload=st.binary())
def test_a_header_reads_as_it_was_written(name: str, uuid: str, flags: int, room: int, payload: bytes) -> None:
    buffer = abi.pack(name=name, uuid=uuid, flags=flags, payload=payload, room=room)
    header = Header.unpack(buffer)
    assert (header.name, header.uuid, header.flags) == (name, uuid, flags)
    assert header.data_size == len(buffer) == 312 + max(room, len(payload))
    assert header.data_start == 312


@pytest.mark.parametrize("field", [{"name": "x" * 128}, {"uuid": "x" * 129}, {"name": "a\0b"}, {"name": "é" * 64}])
def test_a_name_that_does_not_fit_is_refused(field: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not a device-mapper"):
        abi.pack(**field)  # type: ignore[arg-type]


@given(lines=st.lists(st.tuples(_u64, _u64, st.sampled_from(["thin", "linear", "fifteen-letters"]), _text)))
def test_targets_of_an_answer_are_read_back(lines: list[tuple[int, int, str, str]]) -> None:
    specs = [bytearray(abi.pack_target(*line)) for line in lines]
    assert all(len(spec) % 8 == 0 for spec in specs)
    assert [struct.unpack_from("=I", spec, 20)[0] for spec in specs] == [len(spec) for spec in specs]
    # What differs in an answer: the kernel counts ``next`` from the first of them.
    end = 0
    for spec in specs:
        end += len(spec)
        struct.pack_into("=I", spec, 20, end)
    buffer = abi.pack(target_count=len(lines), payload=b"".join(specs))
    assert list(abi.unpack_targets(buffer, Header.unpack(buffer))) == lines


@pytest.mark.parametrize(("target", "params"), [("", "x"), ("sixteen-letters!", "x"), ("thin", "a\0b")])
def test_a_target_that_does_not_fit_is_refused(target: str, params: str) -> None:
    with pytest.raises(ValueError, match="not a device-mapper target"):
        abi.pack_target(0, 8, target, params)


@given(entries=st.lists(st.tuples(st.integers(1, 2**64 - 1), _name)), spare=st.integers(0, 40))
def test_a_list_of_devices_is_read_whole(entries: list[tuple[int, str]], spare: int) -> None:
    payload = b""
    for place, (dev, name) in enumerate(entries):
        # The kernel puts an event number and more behind the name.
        body = name.encode() + b"\0" + b"\1" * spare
        size = -(-(12 + len(body)) // 8) * 8
        following = size if place < len(entries) - 1 else 0
        payload += (struct.pack("=QI", dev, following) + body).ljust(size, b"\0")
    buffer = abi.pack(payload=payload or bytes(16))
    assert list(abi.unpack_names(buffer, Header.unpack(buffer))) == entries


@given(entries=st.lists(st.tuples(_name, _version), min_size=1))
def test_a_list_of_targets_is_read_whole(entries: list[tuple[str, tuple[int, int, int]]]) -> None:
    payload = b""
    for place, (name, version) in enumerate(entries):
        size = -(-(16 + len(name) + 1) // 8) * 8
        following = size if place < len(entries) - 1 else 0
        payload += struct.pack("=I3I", following, *version).ljust(16, b"\0") + name.encode().ljust(size - 16, b"\0")
    buffer = abi.pack(payload=payload)
    assert list(abi.unpack_versions(buffer, Header.unpack(buffer))) == entries


def test_a_message_is_a_sector_and_a_closed_string() -> None:
    assert abi.pack_message(5, "create_thin 7") == struct.pack("=Q", 5) + b"create_thin 7\0"


def test_an_answer_to_a_message_is_read_only_if_there_is_one() -> None:
    for flags, answer in ((Flag.DATA_OUT, "42"), (Flag(0), "")):
        buffer = abi.pack(flags=flags, payload=b"42\0rest")
        assert abi.unpack_message(buffer, Header.unpack(buffer)) == answer


def test_a_refused_ioctl_is_an_oserror_with_its_number() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Inappropriate") as caught:
            abi.ioctl(reader, Request.VERSION, abi.pack())
        assert caught.value.errno == errno.ENOTTY
    finally:
        os.close(reader)
        os.close(writer)
