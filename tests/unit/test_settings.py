"""A pools file that no person would write, and every error names its place in the file."""

from pathlib import Path

import pytest

from csi.errors import InvalidRequestError
from csi.settings import load_pools

DIGITS = 5000


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "[" * 3000,
        "pools: 2001-99-99",
        "pools: !!int ''",
        "pools: !!bool x",
        f"pools: {'1' * DIGITS}",
    ],
    ids=["nul", "deep", "date", "nothing", "word", "digits"],
)
def test_what_yaml_cannot_read_is_an_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequestError, match=f"read pools file {file}: not YAML: "):
        load_pools(file)


@pytest.mark.parametrize("field", ["thinpPercent", "overprovisionRatio", "blockSize", "minFreeSpacePercent", "trim"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "0x" + "f" * DIGITS], ids=["decimal", "beyond-printing"])
def test_a_number_too_large_is_an_error_that_names_the_field(field: str, number: str, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(f"pools: [{{name: a, devices: [/dev/sdb], {field}: {number}}}]")
    with pytest.raises(InvalidRequestError, match=rf"pools\[0\]\.{field}: ") as caught:
        load_pools(file)
    assert len(str(caught.value)) < 500


def test_aliases_that_stand_for_more_than_fits_are_not_written_out(tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    pairs = zip("abcdefghi", "bcdefghij", strict=True)
    lists = [f"&{name} [{', '.join([f'*{above}'] * 9)}]" for above, name in pairs]
    file.write_text(f"pools: [{{name: [&a [x, x], {', '.join(lists)}]}}]")
    with pytest.raises(InvalidRequestError, match=r"pools\[0\]\.name: must be text") as caught:
        load_pools(file)
    assert len(str(caught.value)) < 100_000
