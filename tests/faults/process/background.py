"""Something that is done again and again while a test goes on."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """Takes one step after the other, in a thread of its own, until it is ended or a step fails."""

    def __init__(self) -> None:
        self.trouble: BaseException | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Go on during the body."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; the body's own error comes first."""
        try:
            self.end()
        except BaseException:
            if error is None:
                raise

    @abstractmethod
    def step(self) -> None:
        """Do it once."""

    def end(self) -> None:
        """Do it no more; raise what a step raised."""
        self._ending.set()
        self._thread.join()
        if self.trouble is not None:
            raise self.trouble

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self.step()
        except BaseException as error:  # noqa: BLE001 - raised by ``end``
            self.trouble = error
