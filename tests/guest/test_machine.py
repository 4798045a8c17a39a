"""The guest harness: what comes back from a guest, and that nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.boot import DeadlineError, GuestLostError
from tests.guest.machine import Guest, private_directory, sparse_disk

COMMAND = (sys.executable, "-m", "tests.guest", "--memory", "256", "--disk", "64M")
LIMIT = 180.0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for files of the harness."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left(temporary: Path) -> Iterator[None]:
    yield
    assert processes(temporary) == []
    assert [path.name for path in temporary.glob("thinpool-guest-*")] == []


def processes(directory: Path) -> list[str]:
    """Return the command lines of the guests whose files are below ``directory``, zombies left aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if line.startswith("linux.uml") and f"init={directory}/" in line:
                found.append(line)
    return found


def started(directory: Path) -> subprocess.Popen[str]:
    """Start the command on a guest that says "ready" and then goes on for ever, and wait for the word."""
    # A script that was started in the background ignores SIGINT, and so does all that it starts.
    argv = ["env", "--default-signal=INT", *COMMAND, "--", "sh", "-c", "echo ready; sleep 1000"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert processes(directory)
    return process


def test_exit_status_and_both_outputs_come_back_whole() -> None:
    with Guest(memory_mib=256) as guest:
        result = guest.run(["sh", "-c", "seq 50000; seq 20000 >&2; exit 7"], deadline=LIMIT)
    assert result.status == 7
    assert result.stdout == "".join(f"{number}\n" for number in range(1, 50001))
    assert result.stderr == "".join(f"{number}\n" for number in range(1, 20001))


def test_a_command_that_is_not_there_is_a_failed_command() -> None:
    with Guest(memory_mib=256) as guest:
        assert guest.run(["no-such-command"], deadline=LIMIT).status == 127


def test_arguments_arrive_as_they_are() -> None:
    words = ["a b", "$HOME", "'", '"', "\\n", "", "*", "ü"]
    with Guest(memory_mib=256) as guest:
        result = guest.run(["printf", "%s\\n", *words], deadline=LIMIT)
    assert result.stdout.split("\n")[:-1] == words


def test_a_panic_is_a_lost_guest_and_shows_the_console() -> None:
    with Guest(memory_mib=256) as guest, pytest.raises(GuestLostError, match="sysrq triggered crash"):
        guest.run(["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"], deadline=LIMIT)


def test_a_guest_that_goes_without_a_status_is_lost() -> None:
    with Guest(memory_mib=256) as guest, pytest.raises(GuestLostError, match="before its command had ended"):
        guest.run(["sh", "-c", "echo o >/proc/sysrq-trigger; sleep 1000"], deadline=LIMIT)


def test_a_guest_that_cannot_boot_is_lost() -> None:
    with Guest(memory_mib=16) as guest, pytest.raises(GuestLostError, match=r"Too few physical memory|Kernel panic"):
        guest.run(["true"], deadline=LIMIT)


def test_a_deadline_is_told_from_a_loss() -> None:
    with Guest(memory_mib=256) as guest:
        guest.start(["sh", "-c", "echo ready; sleep 1000"])
        guest.wait_for("ready", deadline=LIMIT)
        with pytest.raises(DeadlineError, match="still running after"):
            guest.wait(deadline=0.1)


def test_the_command_tells_the_outcomes_apart_by_exit_status() -> None:
    for script, options, expected in (
        ("exit 3", (), 3),
        ("echo o >/proc/sysrq-trigger; sleep 1000", (), 125),
        ("sleep 1000", ("--timeout", "40"), 124),
    ):
        done = subprocess.run([*COMMAND, *options, "--", "sh", "-c", script], check=False, timeout=LIMIT)
        assert done.returncode == expected, script


def test_disks_outlive_a_power_cut_and_hold_what_was_flushed(tmp_path: Path) -> None:
    disk = sparse_disk(str(tmp_path / "disk"), "64M")
    assert os.stat(disk).st_blocks == 0
    with Guest([disk], memory_mib=256) as guest:
        # The disk is held open: its last close would flush it.
        script = (
            "exec 3</dev/ubda; echo kept | dd of=/dev/ubda conv=fsync; echo lost | dd of=/dev/ubda seek=2048;"
            "echo ready; sleep 1000"
        )
        guest.start(["sh", "-c", script])
        guest.wait_for("ready", deadline=LIMIT)
        guest.kill()
        result = guest.run(
            ["sh", "-c", "head -c5 /dev/ubda; dd if=/dev/ubda skip=2048 count=1 | tr -d '\\0'"], deadline=LIMIT
        )
    assert result.stdout == "kept\n"


def test_a_disk_is_added_while_the_guest_runs_and_is_there_at_its_next_boot(tmp_path: Path) -> None:
    disks = [sparse_disk(str(tmp_path / name), "64M") for name in ("one", "two")]
    script = "echo ready; until blockdev --getsize64 /dev/ubdb; do sleep 0.1; done"
    with Guest(disks[:1], memory_mib=256) as guest:
        guest.start(["sh", "-c", script])
        guest.wait_for("ready", deadline=LIMIT)
        assert guest.add_disk(disks[1]) == "/dev/ubdb"
        assert guest.wait(deadline=LIMIT).stdout == f"ready\n{64 << 20}\n"
        assert guest.run(["sh", "-c", script], deadline=LIMIT).stdout == f"ready\n{64 << 20}\n"


def test_what_a_guest_writes_does_not_reach_this_machine(tmp_path: Path) -> None:
    here = os.path.dirname(__file__)
    share = tmp_path / "share"
    share.mkdir()
    script = f"echo x >{here}/written && echo x >/tmp/written && echo x >/etc/written && echo y >/run/shared/written"
    with Guest(memory_mib=256, share=str(share)) as guest:
        assert guest.run(["sh", "-c", script], deadline=LIMIT).status == 0
    assert not os.path.exists(f"{here}/written")
    assert not os.path.exists("/etc/written")
    assert (share / "written").read_text() == "y\n"


def test_two_guests_run_at_once() -> None:
    with Guest(memory_mib=256) as one, Guest(memory_mib=256) as two:
        for guest in (one, two):
            guest.start(["sh", "-c", "echo ready; while [ ! -e /run/shared/x ]; do sleep 1; done"])
        for guest in (one, two):
            guest.wait_for("ready", deadline=LIMIT)


def test_udevd_runs_only_when_asked_for() -> None:
    script = "test -e /run/udev/control; echo $? ${DM_DISABLE_UDEV:-unset}"
    with Guest(memory_mib=256) as guest:
        assert guest.run(["sh", "-c", script], deadline=LIMIT).stdout == "1 1\n"
    with Guest(memory_mib=256, udev=True) as guest:
        assert guest.run(["sh", "-c", script], deadline=LIMIT).stdout == "0 unset\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_guest_too(number: signal.Signals, temporary: Path) -> None:
    with started(temporary) as process:
        process.send_signal(number)
        assert process.wait(LIMIT) == 128 + number


def test_a_killed_harness_leaves_no_process_and_its_files_go_with_the_next_run(temporary: Path) -> None:
    with started(temporary) as process:
        process.kill()
    deadline = time.monotonic() + LIMIT
    while processes(temporary):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(temporary.glob("thinpool-guest-*"))
    with private_directory() as directory:
        assert [str(path) for path in temporary.glob("thinpool-guest-*")] == [directory]
