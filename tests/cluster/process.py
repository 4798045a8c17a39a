"""One program of the control plane: started in the cluster's namespace, its log in a file, ended with its maker."""

import subprocess
from collections.abc import Sequence
from typing import Self

from tests.cluster import network


class EndedError(Exception):
    """A program that should run has ended."""


class Process:
    """A running program; a context manager that ends it."""

    def __init__(self, namespace: str, argv: Sequence[str], log: str) -> None:
        self.name = argv[0].rpartition("/")[2]
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                # Should this process be killed, the program dies with it.
                ["setpriv", "--pdeathsig", "KILL", "--", *network.inside(namespace), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise EndedError, with the end of the log, if the program does not run."""
        if self._process.poll() is not None:
            raise EndedError(f"{self.name} ended with status {self._process.returncode}:\n{tail(self.log)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it: what it would put in order is thrown away."""
        self._process.kill()
        self._process.wait()


def tail(path: str, lines: int = 40) -> str:
    """Return the last lines of a file, "" if there is none."""
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return ""
