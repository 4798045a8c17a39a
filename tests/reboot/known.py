"""What the lines that left a machine say about what must be on its disks."""

import json
from collections.abc import Iterable
from typing import Any


class Known:
    """What was answered so far, over all boots."""

    def __init__(self) -> None:
        self.must: dict[str, Any] = {}
        """Volumes and snapshots by id, made and not deleted."""
        self.gone: set[str] = set()
        self.maybe: dict[str, Any] = {}
        """Those whose deletion was not answered."""
        self.unanswered: dict[str, Any] = {}
        """What was asked for and not answered, by name."""

    def learn(self, lines: Iterable[str]) -> None:
        """Take in what a boot has said. A last line that was cut short is none."""
        # What an earlier boot left open is settled by the boot that verified it.
        self.maybe, self.unanswered = {}, {}
        for line in lines:
            if not line.endswith("\n"):
                continue
            match json.loads(line):
                case {"making": making}:
                    self.unanswered[making["name"]] = making
                case {"made": thing}:
                    # A group's members are said one by one; its name comes first.
                    self.unanswered.pop(thing["name"].partition(" in ")[0], None)
                    self.must[thing["id"]] = thing
                case {"deleting": each}:
                    if each in self.must:
                        self.maybe[each] = self.must.pop(each)
                case {"gone": each}:
                    self.maybe.pop(each, None)
                    self.gone.add(each)

    def dump(self) -> str:
        """Return what the next boot needs."""
        return json.dumps(
            {
                "must": list(self.must.values()),
                "gone": sorted(self.gone),
                "maybe": list(self.maybe.values()),
                "unanswered": list(self.unanswered.values()),
            }
        )
