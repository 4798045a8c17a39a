"""The templates that a pool has: by shape, in the order of their use."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from csi.model import Device, FsType
from csi.units import Bytes


@dataclass(frozen=True)
class Shape:
    """What two volumes must have in common to begin alike."""

    fs_type: FsType
    size: Bytes
    command: str
    """mkfs and its options: they follow the kernel and the tools that are there."""

    @classmethod
    def of(cls, template: Device) -> Self:
        """Return a template's own."""
        return cls(template.fs_type or FsType.EXT4, template.size, template.mkfs_profile)


class Templates:
    """The templates of a pool that is open, and who begins a volume as one of them right now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Shape, Device] = {}
        """The least recently used first."""
        self._users: dict[Shape, int] = {}

    def __contains__(self, shape: Shape) -> bool:
        """Tell whether there is one of this shape."""
        with self._lock:
            return shape in self._known

    def fill(self, devices: Sequence[Device]) -> list[Device]:
        """Know these from now on and no others; return those that are second of their shape, which nobody needs."""
        with self._lock:
            self._known = {Shape.of(device): device for device in devices}
            return [device for device in devices if device not in self._known.values()]

    def add(self, device: Device) -> None:
        """Know one more, if there is none of its shape."""
        with self._lock:
            self._known.setdefault(Shape.of(device), device)

    @contextmanager
    def using(self, shape: Shape | None) -> Iterator[Device | None]:
        """Lend the template of a shape, if there is one; until it comes back it is not dropped."""
        found = self._lend(shape) if shape is not None else None
        try:
            yield found
        finally:
            if shape is not None and found is not None:
                with self._lock:
                    self._users[shape] -= 1
                    if not self._users[shape]:
                        del self._users[shape]

    def _lend(self, shape: Shape) -> Device | None:
        with self._lock:
            found = self._known.pop(shape, None)
            if found is not None:
                self._known[shape] = found
                self._users[shape] = self._users.get(shape, 0) + 1
            return found

    def take_spare(self, most: int) -> list[Device]:
        """Return those beyond ``most`` that nobody uses, the least recently used first, and know them no more."""
        with self._lock:
            idle = [shape for shape in self._known if shape not in self._users]
            return [self._known.pop(shape) for shape in idle[: max(0, len(self._known) - most)]]
