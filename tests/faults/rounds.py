"""How long and by which throws of the dice: ROUNDS and SEED of the environment."""

import os
import random
import sys
from dataclasses import dataclass
from typing import Final

FACTOR: Final = int(os.environ.get("ROUNDS") or 1)
"""How many times as long as in the short form everything takes."""


@dataclass(frozen=True)
class Rounds:
    """How often something is tried, and the seed that repeats it."""

    count: int
    seed: int

    def dice(self) -> random.Random:
        """Return dice that fall the same way again."""
        return random.Random(self.seed)  # noqa: S311 - to be repeated


def rounds(short: int) -> Rounds:
    """Return ``short`` as many times as ROUNDS says; say what repeats this run."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    count = short * FACTOR
    tell(f"SEED={seed} ROUNDS={FACTOR}: {count} times")
    return Rounds(count, seed)


def tell(text: str) -> None:
    """Say what was counted or measured. tests.tools.suite shows these lines of a job that succeeded."""
    sys.stderr.write(f"| {text}\n")
