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
        self.changing: dict[str, Any] = {}
        """What volumes may have become, by id: a change was not answered."""
        self.made = self.kills = self.looks = 0
        """How much was made, how often the node was killed, how often all was compared after it."""

    def learn(self, lines: Iterable[str]) -> None:
        """Take in what a boot has said. A last line that was cut short is none."""
        for line in lines:
            if line.endswith("\n"):
                self._learn(json.loads(line))

    def _learn(self, said: dict[str, Any]) -> None:
        match said:
            case {"making": making}:
                self.unanswered[making["name"]] = making
            case {"settled": name}:
                self.unanswered.pop(name, None)
            case {"made": things}:
                self._made(things)
            case {"changing": each, "to": thing}:
                self.changing[each] = thing
            case {"changed": thing}:
                self.changing.pop(thing["id"], None)
                self.must[thing["id"]] = thing
            case {"deleting": ids}:
                self.maybe |= {each: self.must.pop(each) for each in ids if each in self.must}
            case {"gone": ids}:
                self._gone(ids)
        self.kills += "killed" in said
        self.looks += "looked" in said

    def _made(self, things: list[dict[str, Any]]) -> None:
        self.made += len(things)
        for thing in things:
            self.unanswered.pop(thing["name"], None)
            assert thing["id"] not in {*self.must, *self.gone, *self.maybe}, f"an id was used twice: {thing}"
            self.must[thing["id"]] = thing

    def _gone(self, ids: list[str]) -> None:
        for each in ids:
            self.maybe.pop(each, None)
            self.changing.pop(each, None)
            self.gone.add(each)

    def dump(self) -> str:
        """Return what the next boot needs."""
        return json.dumps(
            {
                "must": list(self.must.values()),
                "gone": sorted(self.gone),
                "maybe": list(self.maybe.values()),
                "unanswered": list(self.unanswered.values()),
                "changing": list(self.changing.values()),
            }
        )
