"""Every figure by name: what it is, and what it should be."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Sense(enum.Enum):
    """Which way a figure should lie from its goal."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True)
class Goal:
    """A figure's meaning, and where it should be; ``limit`` is None for one that is only told."""

    meaning: str
    sense: Sense = Sense.AT_MOST
    limit: float | None = None

    def met(self, value: float) -> bool | None:
        """Tell whether ``value`` is where it should be; None if there is no goal."""
        if self.limit is None:
            return None
        return value >= self.limit if self.sense is Sense.AT_LEAST else value <= self.limit

    def __str__(self) -> str:
        return "" if self.limit is None else f"{self.sense.value} {self.limit:g}"


def _least(limit: float, meaning: str) -> Goal:
    return Goal(meaning, Sense.AT_LEAST, limit)


def _most(limit: float, meaning: str) -> Goal:
    return Goal(meaning, Sense.AT_MOST, limit)


GOALS: Final[Mapping[str, Goal]] = {
    "engine_create_vs_lvm": _least(150, "lvcreate -V -T over the making of a volume, catalog and kernel, without gRPC"),
    "engine_snapshot_vs_lvm": _least(150, "lvcreate -s over the cutting of a snapshot, likewise"),
    "engine_clone_vs_lvm": _least(150, "lvcreate -s over the cutting of a clone, likewise"),
    "engine_activate_vs_lvm": _least(60, "lvcreate -V -T over the making of a volume and of its device"),
    "engine_delete_vs_lvm": _least(20, "lvremove -f over deletion, until id and space are free, volume half mapped"),
    "create_vs_lvm": _least(25, "lvcreate -V -T over CreateVolume"),
    "snapshot_vs_lvm": _least(25, "lvcreate -s over CreateSnapshot"),
    "create_vs_limit": _most(1.5, "CreateVolume over an empty call, a durable commit and the bare message"),
    "snapshot_vs_limit": _most(1.5, "CreateSnapshot over the same"),
    "flat_create": _most(1.15, "making a volume in a pool that holds 10,000 over one that holds 10"),
    "flat_snapshot": _most(1.15, "cutting a snapshot, likewise"),
    "flat_lvm": Goal("lvcreate -V -T with 300 volumes in the pool over 10"),
    "burst_vs_limit": _least(0.7, "1,000 CreateVolume, 64 at once: volumes a second over empty calls a second"),
    "freeze_vs_limit": _most(
        1.5, "a snapshot's hold on a writer over that of bare suspend, message, resume; 99th of each"
    ),
    "group_freeze_32": _most(1.2, "how long a group of 32 holds a writer over 32 times the bare one; 99th of each"),
    "stage_vs_tools": _most(1.2, "NodeStageVolume of a new ext4 volume over mkfs and mount(8) alone"),
    "restage_vs_tools": _most(1.2, "NodeStageVolume of a formatted volume over e2fsck -p and mount(8) alone"),
    "stage_templated": _most(0.4, "NodeStageVolume of a new volume of a shape seen before over mkfs and mount(8)"),
    "rss_node_mib": _most(56, "resident memory of the node's process in a cluster, idle, MiB"),
    "rss_node_10k_mib": _most(72, "the same with 10,000 volumes and snapshots, the volumes listed once, MiB"),
    "start_10k_vs_thin_ls": _most(2, "start to serving with 10,000 over thin_ls and an interpreter's start"),
    "list_10k": _most(0.05, "ListVolumes by pages of 500, for each volume, over an empty call"),
    "clones_1000_space": _most(1.1, "pool space with 1,000 clones, each mounted once, of a 1 GiB volume, over without"),
    "delete_stall": _most(3, "a writer's longest stall while 8 GiB are deleted over its longest in quiet"),
    "data_path_read_4k": Goal("random reads of 4 KiB: a thin volume's time over a linear one's"),
    "data_path_write_4k": Goal("random writes of 4 KiB, likewise"),
    "data_path_read_64k": Goal("reads of 64 KiB in order, likewise"),
    "data_path_write_64k": Goal("writes of 64 KiB in order, likewise"),
}
