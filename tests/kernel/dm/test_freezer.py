"""Freezes end in time, whoever dies or hangs meanwhile."""

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.dm import block
from csi.dm.freezer import Freezer
from csi.dm.ioctl import Control
from csi.dm.thin_device import ThinDevice
from csi.errors import BusyError, StateError, UnavailableError
from csi.model import ThinId
from csi.units import KIB, MIB, Bytes
from tests.kernel.conftest import BarePool, MakePool, Mount, run, wait_until

_SIZE = Bytes(16 * MIB)
_LONG = 60.0
"""A bound for freezes, in seconds, that no slow machine comes to: what ends them sooner is something else."""
_NO_SPACE_TIMEOUT = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    started = Freezer.start()
    yield started
    started.close()
    # The guard goes by itself; it is our child here, so it is reaped here.
    os.wait()


@pytest.fixture
def patient_pool(make_pool: MakePool) -> Iterator[BarePool]:
    """Make a pool of 48 MiB whose writers wait without end when it is full."""
    before = _NO_SPACE_TIMEOUT.read_text()
    _NO_SPACE_TIMEOUT.write_text("0")
    yield make_pool(48 * MIB)
    _NO_SPACE_TIMEOUT.write_text(before)


def test_a_group_is_suspended_in_the_body_and_runs_after_it(freezer: Freezer, pool: BarePool) -> None:
    devices = [pool.activated(thin, _SIZE) for thin in range(1, 6)]
    with freezer.frozen(devices) as frozen:
        assert all(_suspended(device) for device in devices)
        assert not frozen.expired
    assert not any(_suspended(device) for device in devices)


def test_a_body_that_fails_leaves_nothing_suspended(freezer: Freezer, pool: BarePool) -> None:
    devices = [pool.activated(thin, _SIZE) for thin in (1, 2)]

    def fail() -> None:
        with freezer.frozen(devices):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not any(_suspended(device) for device in devices)


def test_a_device_that_is_not_there_undoes_the_rest_of_the_group(freezer: Freezer, pool: BarePool) -> None:
    there = pool.activated(1, _SIZE)
    with pytest.raises(Exception, match="ENXIO"), freezer.frozen([there, pool.device(2)]):
        pytest.fail("frozen without one of its devices")
    assert not _suspended(there)


def test_a_body_that_takes_too_long_finds_its_devices_running_and_is_told(freezer: Freezer, pool: BarePool) -> None:
    devices = [pool.activated(thin, _SIZE) for thin in (1, 2)]

    def dawdle() -> None:
        with freezer.frozen(devices, limit=0.3) as frozen:
            wait_until(lambda: not any(_suspended(device) for device in devices), 30)
            assert frozen.expired

    with pytest.raises(UnavailableError, match="took longer than"):
        dawdle()
    with freezer.frozen(devices):
        assert all(_suspended(device) for device in devices)


def test_a_file_system_frozen_by_somebody_else_is_not_ours_to_thaw(
    freezer: Freezer, pool: BarePool, mount: Mount
) -> None:
    device, other = pool.activated(1, _SIZE), pool.activated(2, _SIZE)
    target = mount(device.path)
    run("fsfreeze", "-f", target)
    try:
        with pytest.raises(StateError, match="somebody else") as caught, freezer.frozen([other, device]):
            pytest.fail("frozen twice")
        assert caught.value.errno == errno.EBUSY
        assert not _suspended(other)
        assert not _suspended(device)
    finally:
        run("fsfreeze", "-u", target)


def test_freezes_of_one_device_take_turns(freezer: Freezer, pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    together, most, errors = 0, 0, []
    counting = threading.Lock()

    def freeze() -> None:
        nonlocal together, most
        try:
            for _ in range(5):
                with freezer.frozen([device]):
                    with counting:
                        together += 1
                        most = max(most, together)
                    assert _suspended(device)
                    with counting:
                        together -= 1
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=freeze) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert most == 1
    assert not _suspended(device)


def test_freezes_of_other_devices_do_not_wait(freezer: Freezer, pool: BarePool) -> None:
    first, second = pool.activated(1, _SIZE), pool.activated(2, _SIZE)
    with freezer.frozen([first], limit=_LONG):
        done = threading.Event()

        def freeze() -> None:
            with freezer.frozen([second], limit=_LONG):
                done.set()

        thread = threading.Thread(target=freeze)
        thread.start()
        assert done.wait(_LONG / 2)
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_devices_run_again_at_once_after_their_freezer_is_killed(
    control: Control, pool: BarePool, number: signal.Signals
) -> None:
    devices = [pool.activated(thin, _SIZE) for thin in (1, 2, 3)]
    holder = _hold(devices)
    assert all(_suspended(device) for device in devices)
    holder.send_signal(number)
    wait_until(lambda: not any(_suspended(device) for device in devices), _LONG / 2)
    assert holder.wait(30) == -number
    assert control.devices()


def test_devices_run_again_although_the_whole_group_of_processes_is_told_to_end(pool: BarePool) -> None:
    """A terminal's Ctrl-C and a service manager's stop reach the guard too: it must see its task through."""
    device = pool.activated(1, _SIZE)
    holder = _hold([device])
    guard = int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guard, number)
    holder.kill()
    wait_until(lambda: not _suspended(device), _LONG / 2)
    holder.wait(30)
    wait_until(lambda: not os.path.exists(f"/proc/{guard}") or _state(guard, guard) == "Z", 30)


def test_devices_run_again_after_a_hanging_freezer_passed_its_deadline(pool: BarePool) -> None:
    """SIGSTOP: the process neither goes on nor dies."""
    device = pool.activated(1, _SIZE)
    holder = _hold([device], limit=2.0)
    holder.send_signal(signal.SIGSTOP)
    wait_until(lambda: not _suspended(device), 30)
    holder.kill()
    holder.wait(30)


def test_the_first_process_of_a_pid_namespace_is_guarded_too(pool: BarePool) -> None:
    """In a container the program is process 1, and its end is the end of every other process there."""
    device = pool.activated(1, _SIZE)
    init = _hold([device], "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    namespace = int(Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text())
    program = int(Path(f"/proc/{namespace}/task/{namespace}/children").read_text())
    assert _suspended(device)
    os.kill(program, signal.SIGKILL)
    wait_until(lambda: not _suspended(device), _LONG / 2)
    assert init.wait(30) == 128 + signal.SIGKILL


def test_what_a_killed_program_has_begun_is_let_come_to_its_end_by_process_one(tmp_path: Path) -> None:
    """LVM in the middle of an extension, killed, leaves the pool suspended."""
    ends = tmp_path / "ends"
    script = (
        "import os, signal, subprocess; from csi.dm.freezer import Freezer; Freezer.start();"
        f" subprocess.Popen(['sh', '-c', 'sleep 0.5; touch {ends}'], start_new_session=True);"
        " os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", script]
    assert subprocess.run(argv, check=False, timeout=60).returncode == 128 + signal.SIGKILL
    assert ends.exists()


@pytest.fixture
def memory_group(tmp_path: Path) -> Iterator[Path]:
    """Make a group whose processes are killed together when they need more than 128 MiB, as of a container."""
    cgroups = tmp_path / "cgroup"
    cgroups.mkdir()
    run("mount", "-t", "cgroup2", "none", str(cgroups))
    (cgroups / "cgroup.subtree_control").write_text("+memory")
    group = cgroups / "container"
    group.mkdir()
    (group / "memory.oom.group").write_text("1")
    (group / "memory.max").write_text(str(128 * MIB))
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()
    run("umount", str(cgroups))


def test_out_of_memory_the_guard_outlives_its_program(pool: BarePool, memory_group: Path) -> None:
    device = pool.activated(1, _SIZE)
    joined = ("sh", "-c", f'echo 0 >{memory_group}/cgroup.procs; exec "$@"', "sh")
    init = _hold([device], "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *joined)
    first = int(Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text())
    assert _suspended(device)
    # It is passed on to the program, which then takes much memory.
    os.kill(first, signal.SIGUSR2)
    wait_until(lambda: not _suspended(device), _LONG / 2)
    assert init.wait(30) == 128 + signal.SIGKILL
    assert "oom_group_kill 1" in (memory_group / "memory.events").read_text()


def test_process_one_passes_sigterm_on_and_ends_with_its_childs_status(pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    init = _hold([device], "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    namespace = int(Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text())
    os.kill(namespace, signal.SIGTERM)
    assert init.wait(30) == 128 + signal.SIGTERM
    assert not _suspended(device)


def test_a_suspend_that_waits_for_a_full_pool_is_broken_off(freezer: Freezer, patient_pool: BarePool) -> None:
    pool = patient_pool
    device, other = pool.activated(1, _SIZE), pool.activated(2, _SIZE)
    _fill(pool)
    writer = _DirectWriter(device.path)
    wait_until(lambda: pool.status().mode == "out_of_data_space")
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match="took longer than"), freezer.frozen([other, device]):
        pytest.fail("frozen with I/O under way")
    assert 1.9 < time.monotonic() - begun < 30
    assert not _suspended(device)
    assert not _suspended(other)
    pool.extend(Bytes(96 * MIB))
    assert writer.result() is None
    with freezer.frozen([other, device]):
        assert _suspended(device)


def test_a_freeze_of_a_dirty_file_system_on_a_full_pool_holds_up_nobody_else(
    freezer: Freezer, patient_pool: BarePool, mount: Mount
) -> None:
    """The kernel writes the dirty pages out in a wait that no signal ends; only space does, and then all is well."""
    pool = patient_pool
    device, other = pool.activated(1, Bytes(64 * MIB)), pool.activated(2, _SIZE)
    target = mount(device.path)
    _fill(pool)
    with open(f"{target}/dirty", "wb") as file:
        file.write(b"d" * (8 * MIB))
    caught: list[BaseException] = []

    def freeze() -> None:
        try:
            # Long enough for the other to be seen suspended.
            with freezer.frozen([other, device], limit=10):
                caught.append(AssertionError("frozen with pages that have no room"))
        except UnavailableError as error:
            caught.append(error)

    thread = threading.Thread(target=freeze)
    thread.start()
    wait_until(lambda: _suspended(other), 10)
    wait_until(lambda: not _suspended(other), 60)
    assert thread.is_alive()
    assert not _suspended(device)
    # An extension would wait behind the suspend; ballast does not. What it frees can be used after a commit.
    block.discard(pool.device(99).path, Bytes(0), Bytes(24 * MIB))
    pool.status(flush=True)
    thread.join(60)
    assert not thread.is_alive()
    assert [type(error) for error in caught] == [UnavailableError]
    wait_until(lambda: not _suspended(device), 30)
    run("sync", "-f", target)
    assert Path(f"{target}/dirty").read_bytes() == b"d" * (8 * MIB)


def test_a_freeze_without_its_guard_is_refused(pool: BarePool) -> None:
    device = pool.activated(1, _SIZE)
    freezer = Freezer.start()
    guard = int(Path("/proc/thread-self/children").read_text().split()[-1])
    os.kill(guard, signal.SIGKILL)
    os.waitpid(guard, 0)
    with pytest.raises(UnavailableError, match="gone"), freezer.frozen([device]):
        pytest.fail("frozen without a guard")
    assert not _suspended(device)
    freezer.close()


def _hold(devices: list[ThinDevice], *wrapper: str, limit: float = _LONG) -> subprocess.Popen[str]:
    """Start a program that freezes the devices and hangs; return it once they are frozen."""
    program = (sys.executable, "-m", "tests.kernel.dm.hold_freeze", str(limit))
    argv = [*wrapper, *program, *(str(device.handle) for device in devices)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "frozen\n"
    return process


def _suspended(device: ThinDevice) -> bool:
    info = device.info()
    assert info is not None
    return info.suspended


def _state(process: int, thread: int) -> str:
    return Path(f"/proc/{process}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]


def _fill(pool: BarePool) -> None:
    """Map every free block of the pool to one device, id 99."""
    status = pool.status(flush=True)
    free = (status.data_total - status.data_used) * 64 * KIB
    path = pool.activated(99, Bytes(free)).path
    descriptor = os.open(path, os.O_WRONLY)
    data = b"f" * MIB
    for offset in range(0, free, MIB):
        os.pwrite(descriptor, data[: free - offset], offset)
    os.fsync(descriptor)
    os.close(descriptor)
    assert pool.status(flush=True).data_used == status.data_total


class _DirectWriter:
    """A thread that is in one write with O_DIRECT: nothing of it is in the page cache."""

    def __init__(self, path: str) -> None:
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, args=[path])
        self._thread.start()

    def _run(self, path: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, MIB) as buffer:
                os.pwrite(descriptor, buffer, 0)
        except OSError as error:
            self._error = error
        finally:
            os.close(descriptor)

    def result(self) -> OSError | None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._error


def test_a_freeze_behind_one_that_does_not_end_is_busy(
    freezer: Freezer, pool: BarePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csi.dm.freezer._PATIENCE", 0.1)
    device = pool.activated(1, _SIZE)
    with freezer.frozen([device]), pytest.raises(BusyError), freezer.frozen([device]):
        pytest.fail("frozen twice")
    pool.device(1).deactivate()
    pool.delete(ThinId(1))
