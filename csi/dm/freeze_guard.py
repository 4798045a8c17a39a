"""The process that ends a freeze in time; see csi.dm.freezer for what it is told and why it exists.

It never returns: it was forked from a program that must not go on twice.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final, NoReturn

from csi.dm import abi
from csi.dm.ioctl import Control
from csi.errors import DriverError

# How often it looks again at a freeze that is past its deadline and not over.
_PAUSE: Final = 0.05
# How long it goes on after the end of the other process, if a device will not be resumed.
_LAST_PATIENCE: Final = 60.0
_ORPHANS: Final = 5.0
"""Seconds for what a program that died has begun, which goes with its PID namespace. LVM needs less than one."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What ends a program, and not its guard."""


@dataclass
class Freeze:
    """One freeze that was announced and is not over."""

    names: list[str]
    thread: int
    deadline: float


class Guard:
    """What is known of the freezes under way in process ``process``, and what to do about them."""

    def __init__(self, process: int) -> None:
        """Know of none."""
        self.freezes: dict[int, Freeze] = {}
        self._process = process
        self._rest = b""
        self._control: Control | None = None

    def feed(self, data: bytes) -> None:
        """Take in what came over the pipe. Raise ValueError or KeyError for what is no message."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "over" in message:
                del self.freezes[message["over"]]
            else:
                self.freezes[message["freeze"]] = Freeze(message["names"], message["thread"], message["deadline"])

    def timeout(self, now: float) -> float | None:
        """Return the seconds until there is something to do; None: nothing but messages."""
        if not self.freezes:
            return None
        nearest = min(freeze.deadline for freeze in self.freezes.values())
        return nearest - now if nearest > now else _PAUSE

    def expire(self, now: float) -> None:
        """Break off and undo every freeze that is past its deadline."""
        for freeze in self.freezes.values():
            if freeze.deadline <= now:
                abi.signal_thread(self._process, freeze.thread, signal.SIGUSR1)
                self.thaw(freeze)

    def thaw(self, freeze: Freeze) -> bool:
        """Resume what is suspended of a freeze; tell whether nothing is left."""
        done = True
        for name in freeze.names:
            try:
                self._control = self._control or Control()
                # Only looked at first: a resume would wait behind a suspend that is still under way.
                info = self._control.info(name)
                if info is not None and info.suspended:
                    self._control.resume(name)
            except DriverError as error:
                done = False
                _say(str(error))
        return done

    def finish(self) -> None:
        """Undo everything that is left, for as long as it takes up to a minute: the other process is dead."""
        deadline = time.monotonic() + _LAST_PATIENCE
        while self.freezes and time.monotonic() < deadline:
            self.freezes = {number: freeze for number, freeze in self.freezes.items() if not self.thaw(freeze)}
            if self.freezes:
                time.sleep(_PAUSE)

    def serve(self, pipe: int) -> None:
        """Watch over the process at the other end of ``pipe`` until it is gone."""
        # Out of memory the kernel passes it over, also where it kills all of a container: the kubelet asks for that
        # (cgroups, memory.oom.group).
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        try:
            while True:
                timeout = self.timeout(time.monotonic())
                if poll.poll(None if timeout is None else timeout * 1000):
                    data = os.read(pipe, 1 << 16)
                    if not data:
                        return
                    self.feed(data)
                self.expire(time.monotonic())
        finally:
            self.finish()


def guard(pipe: int, mask: set[int | signal.Signals]) -> NoReturn:
    """Be the guard of the parent process, in a session of its own, until the parent is gone.

    ``mask`` is the signal mask to have once it is ready for SIGNALS.
    """
    status = 1
    try:
        parent = os.getppid()
        os.setsid()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _let_go_of_terminal()
        Guard(parent).serve(pipe)
        status = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process must not go on as the program
        _say(f"freeze guard: {error!r}")
    finally:
        os._exit(status)


def guard_as_init(pipe: int, child: int, mask: set[int | signal.Signals]) -> NoReturn:
    """Be the guard of ``child`` and, as the first process of a PID namespace, its init: reap, pass signals on.

    Ends with the child's exit status (128 + n if signal n ended it).
    """
    status = 1
    try:
        for number in (*SIGNALS, signal.SIGUSR2):
            signal.signal(number, lambda received, _frame: _pass_on(child, received))
        # Orphans end up here, and the child itself must be reaped without waiting for it: its end closes the pipe.
        ended: dict[int, int] = {}
        signal.signal(signal.SIGCHLD, lambda _number, _frame: _reap(ended))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        Guard(child).serve(pipe)
        # From here on nobody else reaps, or the wait for the child could miss it.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while child not in ended:
            _reap(ended, block=True)
        # With this process the kernel kills what the child has begun, such as LVM in the middle of an extension.
        deadline = time.monotonic() + _ORPHANS
        while time.monotonic() < deadline and _reap(ended):
            time.sleep(_PAUSE)
        code = os.waitstatus_to_exitcode(ended[child])
        status = code if code >= 0 else 128 - code
    except BaseException as error:  # noqa: BLE001 - as above
        _say(f"freeze guard: {error!r}")
    finally:
        os._exit(status)


def _pass_on(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        # It ended already, and the pipe tells.
        return


def _reap(ended: dict[int, int], *, block: bool = False) -> bool:
    """Take the exit status of what has ended; tell whether there may be more children."""
    while True:
        try:
            process, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return False
        if not process:
            return True
        ended[process] = status
        if block:
            return True


def _let_go_of_terminal() -> None:
    """Keep standard error only: whoever reads the program's output must see its end when the program ends."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
