"""The demo's account: lines, colours, progress."""

import io

import pytest

from csi.cli.account import Account, DemoError, Space


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def account(out: io.StringIO) -> Account:
    made = Account(2, out)
    spaces = iter([Space(64 << 20, 1, 0, 0), Space(65 << 20, 2, 1, 0)])
    made.measure = lambda: next(spaces)
    return made


def test_a_step_has_a_heading_its_lines_its_time_and_the_pools_space() -> None:
    out = io.StringIO()
    made = account(out)
    with made.step("First"):
        made.say("something happens")
    with made.step("Second"):
        made.check(True, "it is so")
    lines = out.getvalue().splitlines()
    assert lines[1:3] == ["[1/2] First", "      something happens"]
    assert lines[3].endswith(" s; pool: 64MiB data, 1 volume, 0 snapshots")
    assert lines[6] == "      ok: it is so"
    assert lines[7].endswith(" s; pool: 65MiB data (+1MiB), 2 volumes, 1 snapshot")
    assert made.checks == 1


def test_a_check_that_fails_is_an_error_and_the_step_has_no_end() -> None:
    out = io.StringIO()
    made = account(out)
    with pytest.raises(DemoError, match="this is not so: every checksum"), made.step("First"):
        made.check(False, "every checksum is right")
    assert "pool:" not in out.getvalue()
    assert made.checks == 0


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def painted(out: io.StringIO) -> bool:
        Account(1, out).say("text", "32")
        return "\x1b" in out.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted(Terminal())
    assert not painted(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not painted(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not painted(Terminal())


def test_progress_is_written_only_when_nothing_else_was_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    out = io.StringIO()
    made = Account(1, out)
    made.progress("1")
    now[0] += 2.5
    made.progress("2")
    made.progress("3")
    assert out.getvalue().split() == ["2"]
