"""Waiting for device-mapper events: a pool that reaches its low-water mark, changes its mode, or fails."""

import os
import select
from types import TracebackType
from typing import Self

from csi.dm.ioctl import CONTROL, Control


class EventWatch:
    """A waiter for events of any device-mapper device of the machine.

    Armed by DM_DEV_ARM_POLL and told by poll(2) (drivers/md/dm-ioctl.c; interface 4.37, Linux 4.14). It tells that
    *something* happened, once for what may be many events, so the caller looks at its pools after each True, and every
    few seconds besides. One thread waits; any thread may call ``wake``.
    """

    def __init__(self, path: str = CONTROL) -> None:
        """Open a control device of its own (the arming belongs to the open file) and arm it.

        Raise UnavailableError or KernelError.
        """
        self._control = Control(path)
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        try:
            self._control.arm_poll()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True if an event came since the last True (or since the opening).

        False at the timeout and after ``wake``.
        """
        ready = {descriptor for descriptor, _ in self._poll.poll(max(0.0, timeout) * 1000)}
        if self._alarm in ready:
            os.eventfd_read(self._alarm)
        if self._control.fileno() not in ready:
            return False
        # Armed again before the caller looks: what happens from now on is a new event, what happened before is seen.
        self._control.arm_poll()
        return True

    def wake(self) -> None:
        """End the wait that is under way, or the next one."""
        os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        """Close both descriptors. No thread may be waiting."""
        self._control.close()
        alarm, self._alarm = self._alarm, -1
        if alarm >= 0:
            os.close(alarm)
