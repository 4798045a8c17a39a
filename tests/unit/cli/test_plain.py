"""Messages as JSON, rows as tables."""

from hypothesis import given
from hypothesis import strategies as st

from csi.cli.plain import fields, table
from csi.pb.thinpool.v1 import admin_pb2 as pb


def test_every_field_is_there_set_or_not() -> None:
    found = fields(pb.Device())
    assert set(found) == {field.name for field in pb.Device.DESCRIPTOR.fields}
    assert found["size"] == 0
    assert found["mapped"] is None
    assert found["active"] is False
    assert fields(pb.Device(mapped=0))["mapped"] == 0


def test_messages_in_messages_are_mappings_in_lists() -> None:
    message = pb.GetNodeResponse(
        target_versions={"thin-pool": "1.22.0", "thin": "1.21.0"},
        pools=[pb.Pool(devices=["/dev/a"], conditions=[pb.Condition(reason="PoolFull")])],
    )
    found = fields(message)
    assert list(found["target_versions"]) == ["thin", "thin-pool"]
    assert found["pools"][0]["devices"] == ["/dev/a"]
    assert found["pools"][0]["conditions"] == [{"reason": "PoolFull", "message": "", "severity": ""}]


@given(st.lists(st.tuples(st.text("abc", max_size=9), st.text("123", min_size=1, max_size=9)), max_size=5))
def test_columns_of_a_table_are_aligned(rows: list[tuple[str, str]]) -> None:
    lines = table(("A", "NUMBER"), [(left or "-", right) for left, right in rows], right=[1]).splitlines()
    assert len(lines) == len(rows) + 1
    assert len({len(line) for line in lines}) == 1
