"""Somebody who changes paths while they are used: directories become links to elsewhere, files, sockets, and back."""

import contextlib
import os
import random
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from csi.fs import syscalls

_ELSEWHERE: Final = ("", "full", "full/deep", "empty", "mounted", "mounted/file", "file", "null")
"""Of the canary's."""
_MENDED: Final = 0.7
"""How often something broken is mended rather than something else broken."""
_UNMOUNTED: Final = 0.1
_PAUSES: Final = (0, 0, 0, 0.001, 0.005)
"""Seconds: a call takes one to forty thousandths."""


class Swapper:
    """Replaces each of ``names`` over and over, in a thread of its own, by the throws of ``dice``."""

    def __init__(self, names: Sequence[Path], elsewhere: Path, dice: random.Random) -> None:
        self.swaps = 0
        self._names = names
        self._elsewhere = elsewhere
        self._dice = dice
        self._ending = threading.Event()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Swap until the end of the block."""
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._ending.set()
            thread.join()

    def _work(self) -> None:
        while not self._ending.is_set():
            broken = [name for name in self._names if not name.is_dir() or name.is_symlink()]
            mend = bool(broken) and self._dice.random() < _MENDED
            name = broken[0] if mend else self._dice.choice(self._names)
            # Only this thread makes links, so what it looks at stays as it is.
            if os.path.realpath(name.parent) == str(name.parent):
                # Calls come between: a mount point cannot be replaced, and what is made may be there already.
                with contextlib.suppress(OSError):
                    self._put_aside(name)
                    self._put_back(name) if mend else self._replace(name)
                    self.swaps += 1
            self._ending.wait(self._dice.choice(_PAUSES))

    def _put_aside(self, name: Path) -> None:
        if name.is_mount() and self._dice.random() < _UNMOUNTED:
            syscalls.umount(str(name), syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        if name.is_symlink() or not name.is_dir():
            name.unlink(missing_ok=True)
        elif _aside(name).exists():
            name.rmdir()
        else:
            name.rename(_aside(name))

    def _put_back(self, name: Path) -> None:
        if _aside(name).exists():
            _aside(name).rename(name)
        else:
            name.mkdir()

    def _replace(self, name: Path) -> None:
        kind = self._dice.randrange(7)
        if kind == 0:
            name.touch()
        elif kind == 1:
            os.mkfifo(name)
        elif kind == 2:
            os.mknod(name, 0o600 | stat.S_IFSOCK)
        elif kind == 3:
            name.mkdir()
        else:
            name.symlink_to(self._elsewhere / self._dice.choice(_ELSEWHERE))


def _aside(name: Path) -> Path:
    return name.with_name(f"{name.name}.aside")
