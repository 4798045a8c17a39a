"""Feed parsers what atheris thinks of: ``python -m tests.faults.parsers.fuzz DIRECTORY RUNS SEED [NAME…]``.

Each parser gets a process of its own, which ends with 0 after so many runs in which nothing was raised that may not
be. ``DIRECTORY/NAME`` has its corpus, what it said, and the input that it could not take.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["csi"], enable_loader_override=False):
    from tests.faults.parsers.answers import ANSWERS
    from tests.faults.parsers.texts import PARSERS

ALL: Final = {**PARSERS, **ANSWERS}
LOG: Final = "log"
_LONGEST: Final = 8192
"""Bytes of an input."""
_SLOWEST: Final = 60
"""Seconds for one input."""


def fuzz(name: str, home: Path, runs: int, seed: int) -> None:
    """Fuzz one parser; libFuzzer ends the process."""
    parser = ALL[name]
    corpus = home / "corpus"
    corpus.mkdir(parents=True)
    for number, sample in enumerate(parser.samples):
        (corpus / str(number)).write_bytes(sample)
    with (home / LOG).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)

    def one(data: bytes) -> None:
        with contextlib.suppress(*parser.raises):
            parser.read(data)

    options = {"runs": runs, "seed": seed, "max_len": _LONGEST, "timeout": _SLOWEST, "artifact_prefix": f"{home}/"}
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)], one)
    atheris.Fuzz()


def main(directory: str, runs: str, seed: str, *names: str) -> int:
    """Fuzz the parsers one after the other; return how many raised what they may not."""
    failed = 0
    for name in names or ALL:
        child = os.fork()
        if child == 0:
            try:
                fuzz(name, Path(directory, name), int(runs), int(seed))
            finally:
                os._exit(1)
        failed += os.waitpid(child, 0)[1] != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
