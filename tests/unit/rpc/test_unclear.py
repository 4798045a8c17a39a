"""What is remembered of volumes that may have been made."""

import pytest

from csi.rpc.fleet import Seat
from csi.rpc.unclear import Unclear


def seat(node: str) -> Seat:
    return Seat.of({"metadata": {"name": f"fast.{node}"}, "spec": {"nodeName": node, "poolName": "fast"}})


A, B = seat("a"), seat("b")


def test_only_the_one_that_may_have_made_it_is_asked_until_that_is_known() -> None:
    unclear = Unclear()
    assert unclear.first("v", [A, B]) == [A, B]
    unclear.add("v", B)
    assert unclear.first("v", [A, B]) == [B]
    assert (unclear.at("v", A), unclear.at("v", B)) == (False, True)
    assert unclear.first("w", [A, B]) == [A, B]
    unclear.forget("v")
    assert unclear.first("v", [A, B]) == [A, B]


def test_one_that_will_not_do_any_more_keeps_nobody_from_being_asked() -> None:
    unclear = Unclear()
    unclear.add("v", B)
    assert unclear.first("v", [A]) == [A]


def test_it_is_forgotten_after_a_while_and_so_are_the_oldest_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csi.rpc.unclear._MOST", 2)
    unclear = Unclear()
    for name in ("u", "v", "w"):
        unclear.add(name, A)
    assert [unclear.at(name, A) for name in ("u", "v", "w")] == [False, True, True]
    monkeypatch.setattr("csi.rpc.unclear.time.monotonic", lambda: float("inf"))
    assert not unclear.at("w", A)
