"""One boot of a guest: the kernel's processes, its console, its two serial lines, and its exit status."""

import contextlib
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.guest import console
from tests.guest.waker import Waker

KERNEL: Final = "linux.uml"

BOOT_LIMIT: Final = 120.0
"""Seconds until the command must have begun; about two are usual."""
_PROCESSOR: Final = "thinpool-guest-processor"
_GOING_LIMIT: Final = 30.0
_KILL_LIMIT: Final = 10.0
_CONSOLE_TAIL: Final = 64 << 10
_OUTPUT_LIMIT: Final = 64 << 20
_TICK: Final = 0.2
# A panic's own line comes before a stack trace of some forty.
_LINES: Final = 100
# The shell is the namespace's first process: the kernel itself could not be, for it ends a panic by a signal to itself.
_NAMESPACE: Final = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--", "sh", "-c", '"$@"; exit $?', "sh")


class GuestLostError(Exception):
    """The guest itself failed: it did not boot, panicked, or went away without leaving an exit status."""

    def __init__(self, why: str, console: str) -> None:
        super().__init__(why)
        self.why = why
        self.console = console

    def __str__(self) -> str:
        """Say what happened and show the end of the guest's console."""
        tail = "\n".join(f"  | {line}" for line in self.console.strip().splitlines()[-_LINES:])
        return f"{self.why}; its console ended with\n{tail or '  | (nothing)'}"


class DeadlineError(Exception):
    """The command was still running when its time was up; the guest was killed."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status and what it wrote."""

    status: int
    stdout: str
    stderr: str


Sink = Callable[[int, bytes], None]
"""Takes output as it comes: the file descriptor it was written to (1 or 2) and the bytes."""


class Boot:
    """One boot: the kernel's process group and the pipes from its console and its two serial lines."""

    def __init__(
        self, directory: str, arguments: Sequence[str], sink: Sink, preload: str, *, namespace: str = ""
    ) -> None:
        self._directory = directory
        self._sink = sink
        self._begun = time.monotonic()
        self._console = bytearray()
        self._output = {1: bytearray(), 2: bytearray()}
        self._stack = contextlib.ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self._open = 0
        ends = [self._pipe(stream) for stream in (0, 1, 2)]
        processor = _processor(self._stack)
        argv = [
            # The kernel and what it runs take turns, at each system call: on one processor that costs a quarter.
            *("taskset", "--cpu-list", str(processor)),
            # No core file when the guest panics. Should this process be killed, the guest dies with it (so start it
            # from a thread that lives as long). In a process namespace of its own nothing survives the kernel.
            *("prlimit", "--core=0", "--", "setpriv", "--pdeathsig", "KILL", "--"),
            *(("nsenter", f"--net=/run/netns/{namespace}", "--") if namespace else ()),
            *(_NAMESPACE if os.geteuid() == 0 else ()),
            *(KERNEL, *arguments, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
            f"init={directory}/init.sh",
            "uml_dir=uml",  # in the working directory: its sockets' names must be short
            "umid=guest",
            "con=null",
            *(f"con{number}=null,fd:{end}" for number, end in enumerate(ends)),
        ]
        environment = {"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin", "TMPDIR": _memory_directory()}
        if preload:
            environment["LD_PRELOAD"] = preload
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=ends[0],
                stderr=ends[0],
                pass_fds=ends,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        finally:
            for end in ends:
                os.close(end)
        self._stack.enter_context(Waker(self._kernel))

    def _pipe(self, stream: int) -> int:
        """Register a pipe for ``stream`` (0: console) and return its writing end."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._stack.callback(os.close, reading)
        self._selector.register(reading, selectors.EVENT_READ, stream)
        self._open += 1
        return writing

    def wait(self, limit: float) -> Result:
        """Pump until the process is gone, or a bound is passed."""
        going = 0.0
        while self._process.poll() is None:
            self._pump(_TICK)
            now = time.monotonic()
            if self._status() is not None:
                going = going or now
                if now > going + _GOING_LIMIT:  # the command ended; a guest that cannot go is helped along
                    break
            else:
                self._check_bounds(limit)
        self.stop()
        status = self._status()
        if status is None:
            message = f"the guest was lost after {time.monotonic() - self._begun:.0f} s, before its command had ended"
            raise GuestLostError(message, self._console.decode(errors="replace"))
        return Result(status, *(self._output[stream].decode(errors="replace") for stream in (1, 2)))

    def wait_for(self, text: str, limit: float) -> None:
        """Pump until ``text`` is in the command's standard output."""
        wanted = text.encode()
        while wanted not in self._output[1]:
            if self._process.poll() is not None:
                self._drain()
                if wanted in self._output[1]:
                    return
                message = f"the guest ended without having written {text!r}"
                raise GuestLostError(message, self._console.decode(errors="replace"))
            self._pump(_TICK)
            # What has come late has come.
            if wanted not in self._output[1]:
                self._check_bounds(limit)

    def _check_bounds(self, limit: float) -> None:
        spent = time.monotonic() - self._begun
        if spent > min(limit, BOOT_LIMIT) and not os.path.exists(f"{self._directory}/started"):
            self.stop()
            message = f"the guest had not booted after {spent:.0f} s"
            raise GuestLostError(message, self._console.decode(errors="replace"))
        if spent > limit:
            self.stop()
            message = f"the command was still running after {limit:g} s: the guest was killed"
            raise DeadlineError(message)

    def _kernel(self) -> int | None:
        """Return the kernel's process once its command has begun."""
        process: int | None = self._process.pid if os.path.exists(f"{self._directory}/started") else None
        while process is not None and _name(process) != KERNEL:
            process = next(iter(_children(process)), None)
        return process

    def _status(self) -> int | None:
        try:
            with open(f"{self._directory}/status") as file:
                return int(file.read())
        except FileNotFoundError:
            return None

    def _pump(self, timeout: float) -> bool:
        """Take what has come within ``timeout`` seconds; tell whether there was anything."""
        events = self._selector.select(timeout) if self._open else []
        if not self._open:
            time.sleep(timeout)
        for key, _ in events:
            data = os.read(key.fd, 1 << 16)
            if not data:
                self._selector.unregister(key.fd)
                self._open -= 1
            elif key.data == 0:
                self._console += data
                del self._console[:-_CONSOLE_TAIL]
            else:
                self._output[key.data] += data
                del self._output[key.data][:-_OUTPUT_LIMIT]
                self._sink(key.data, data)
        return bool(events)

    def _drain(self) -> None:
        while self._open and self._pump(0):
            pass

    def stop(self) -> None:
        """Kill the kernel and its host processes, reap it, and take the rest of the output."""
        # With a namespace: its first process takes all others along, and unshare reaps it. Without: the whole group.
        if self._process.poll() is None:
            children = _children(self._process.pid)
            with contextlib.suppress(ProcessLookupError):
                for child in children:
                    os.kill(child, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_LIMIT if children else 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._drain()

    def check(self) -> None:
        """Take what has come, without waiting. Raise GuestLostError if the guest is gone."""
        self._drain()
        if self._process.poll() is not None:
            raise GuestLostError("the guest went away", self._console.decode(errors="replace"))

    def configure(self, what: str) -> None:
        """Tell the running kernel to take a device, as its command line would. Raise OSError if it does not."""
        console.configure(f"{self._directory}/uml/guest", what)

    def close(self) -> None:
        """Stop, and remove everything of this boot."""
        try:
            self.stop()
        finally:
            self._stack.close()
            shutil.rmtree(self._directory)


def _processor(stack: contextlib.ExitStack) -> int:
    """Choose a processor that no other guest has until ``stack`` is closed, or any if all are taken."""
    ours = sorted(os.sched_getaffinity(0))
    random.shuffle(ours)
    for number in ours:
        # A name without a file, which goes with us however we end.
        taken = stack.enter_context(socket.socket(socket.AF_UNIX))
        with contextlib.suppress(OSError):
            taken.bind(f"\0{_PROCESSOR}-{number}")
            return number
    return ours[0]


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _memory_directory() -> str:
    """Return where the guest's memory file may lie; the kernel unlinks it as soon as it is open."""
    shared = "/dev/shm"
    if os.path.ismount(shared):
        room = os.statvfs(shared)
        if room.f_bavail * room.f_frsize > 4 << 30:
            return shared
    return tempfile.gettempdir()
