"""A small file is replaced whole or not at all."""

from pathlib import Path

import pytest

from csi import durable
from csi.errors import KernelError


def test_a_file_is_made_and_replaced_with_its_directory(tmp_path: Path) -> None:
    file = tmp_path / "state/wanted.json"
    for text in ("one", "another"):
        durable.write(file, text)
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_one_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "wanted.json"
    durable.write(file, "before")
    (tmp_path / "wanted.new").mkdir()
    with pytest.raises(KernelError, match="EISDIR"):
        durable.write(file, "after")
    assert file.read_text() == "before"
