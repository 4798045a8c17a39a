"""``thinpool-csi info``: what ``docker info`` showed of a thin pool, in its words and order, and what came since."""

import argparse
from typing import TYPE_CHECKING, Any

from csi.cli.client import Source, answer
from csi.settings import Mode
from csi.units import format_size

if TYPE_CHECKING:
    from csi.pb.thinpool.v1 import admin_pb2 as pb


def run(options: argparse.Namespace) -> int:
    """Print the figures; 1 if they could not be had."""
    return answer(options, lambda source: _show(source, options))


def _show(source: Source, options: argparse.Namespace) -> int:
    node = source.node()
    if options.output == "json":
        from csi.cli import plain  # noqa: PLC0415 - protobuf, once the source has been chosen

        plain.print_json(as_fields(node) | {"served": source.served})
    else:
        print(as_text(node))
    return 0


def as_fields(node: "pb.GetNodeResponse") -> dict[str, Any]:
    """Return all figures under their names in proto/thinpool/v1/admin.proto, and what is available of each space."""
    from csi.cli import plain  # noqa: PLC0415 - as above

    found = plain.fields(node)
    for pool in found["pools"]:
        for space in ("data", "metadata"):
            pool[f"{space}_available"] = pool[f"{space}_total"] - pool[f"{space}_used"]
    return found


def as_text(node: "pb.GetNodeResponse") -> str:
    """Return all figures for a person, a paragraph a pool."""
    head = f"Node: {node.node}\nVersion: {node.version}"
    return "\n\n".join([head, *(_pool(node, pool) for pool in node.pools)])


def _pool(node: "pb.GetNodeResponse", pool: "pb.Pool") -> str:
    lines = [f"Pool: {pool.pool}", *(_figures(node, pool) if pool.pool_id else _wanted(pool))]
    lines.append(f"Health: {_health(pool)}")
    lines += [f" {condition.reason} ({condition.severity}): {condition.message}" for condition in pool.conditions]
    first, *rest = lines
    return "\n ".join([first, *rest])


def _wanted(pool: "pb.Pool") -> list[str]:
    """Return what is known of a pool that is not open."""
    return [f"Mode: {_mode(pool)}", f"Devices: {', '.join(pool.devices)}"] if pool.devices else [f"Mode: {_mode(pool)}"]


def _figures(node: "pb.GetNodeResponse", pool: "pb.Pool") -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(node.target_versions.items()))
    return [
        # As docker info had them (moby, daemon/graphdriver/devmapper/driver.go, Status).
        f"Pool Name: {pool.pool_name}",
        f"Pool Blocksize: {format_size(pool.block_size)}",
        f"Base (default volume) Size: {format_size(pool.default_volume_size)}",
        *([f"Backing Filesystem: {pool.backing_filesystem}"] if pool.backing_filesystem else []),
        f"Udev Sync Supported: {_yes(pool.udev_sync)}",
        f"Data file: {pool.data_file}",
        f"Metadata file: {pool.metadata_file}",
        *([f"Data loop file: {pool.data_loop_file}"] if pool.data_loop_file else []),
        *([f"Metadata loop file: {pool.metadata_loop_file}"] if pool.metadata_loop_file else []),
        f"Data Space Used: {format_size(pool.data_used)}",
        f"Data Space Total: {format_size(pool.data_total)}",
        f"Data Space Available: {format_size(pool.data_total - pool.data_used)}",
        f"Metadata Space Used: {format_size(pool.metadata_used)}",
        f"Metadata Space Total: {format_size(pool.metadata_total)}",
        f"Metadata Space Available: {format_size(pool.metadata_total - pool.metadata_used)}",
        f"Thin Pool Minimum Free Space: {format_size(pool.min_free)}",
        f"Deferred Removal Enabled: {_yes(node.deferred_removal)}",
        f"Deferred Deletion Enabled: {_yes(node.deferred_deletion)}",
        f"Deferred Deleted Device Count: {pool.deferred_deletions}",
        f"Library Version: {node.library_version}",
        # What Docker had not.
        f"Target Versions: {versions}",
        f"Mode: {_mode(pool)}",
        f"Pool Id: {pool.pool_id}",
        f"Devices: {', '.join(pool.devices)}",
        f"Volumes: {pool.volumes}",
        f"Snapshots: {pool.snapshots}",
        f"Templates: {pool.templates}",
        f"Quarantined Devices: {pool.quarantined}",
        f"Virtual Size of Volumes: {format_size(pool.virtual_total)}{_promised(pool)}",
        f"Over-provisioning Ratio Allowed: {pool.overprovision_ratio:g}",
        f"Data Space Left to Extend into: {format_size(pool.extendable)}",
        f"Ballast: {format_size(pool.ballast)}",
        f"When Full: {pool.when_full}",
        f"Trim: {pool.trim}",
        f"Kernel Mode: {pool.mode_kernel}",
        f"Transaction Id: {pool.transaction_id}",
        f"Device Ids Left: {pool.ids_left}",
    ]


def _promised(pool: "pb.Pool") -> str:
    whole = pool.data_total + pool.extendable
    return f" ({pool.virtual_total / whole:.2f} of the pool's space)" if whole else ""


def _mode(pool: "pb.Pool") -> str:
    return f"{pool.mode}: for development, not for production" if pool.mode == Mode.LOOP else pool.mode


def _health(pool: "pb.Pool") -> str:
    bad = [condition for condition in pool.conditions if condition.severity != "info"]
    if not bad:
        return "good"
    return "not open" if not pool.pool_id else ", ".join(condition.reason for condition in bad)


def _yes(fact: bool) -> str:  # noqa: FBT001 - the fact is all there is
    return "true" if fact else "false"
