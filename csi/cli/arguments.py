"""What can be said on the command line. Imports nothing but argparse: ``--help`` answers at once."""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Final

from csi import __version__

_Formatter = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)

ENDPOINT: Final = "unix:///var/lib/kubelet/plugins/thinpool-csi.dev/csi.sock"

_DAY: Final = 86400

CONTROLLER_ENDPOINT: Final = "unix:///csi/csi.sock"

_EPILOG: Final = """\
exit status:
  0  done
  1  failed; one line on standard error says why and what to do
  2  wrong usage (and for 'check' and 'repair': could not do it)

examples:
  thinpool-csi demo                       see it work, on sparse files, in a minute
  thinpool-csi node --pools pools.yaml    serve the pools of a file
  thinpool-csi info                       how full the pools are, as docker info said
"""

_NODE: Final = """\
examples:
  thinpool-csi node
      A first try: a loop-lvm pool on two sparse files below /var/lib/thinpool-csi.
      For development, not for production.

  thinpool-csi node --pools /etc/thinpool-csi/pools.yaml --log-format console
      with this file, a pool on a disk of its own:

      pools:
        - name: fast
          devices: [/dev/disk/by-id/nvme-EXAMPLE]

  thinpool-csi node --registration-dir /var/lib/kubelet/plugins_registry
      Also make itself known to this machine's kubelet.
"""

_CONTROLLER: Final = """\
Keeps nothing of its own: any number of them may run, beside csi-provisioner,
csi-snapshotter and csi-resizer. The chart starts them.
"""

_INFO: Final = """\
examples:
  thinpool-csi info
  thinpool-csi info --output json | jq '.pools[] | {pool, data_used, data_total}'
  thinpool-csi info --pools pools.yaml    while no node runs: reads the idle pools
"""

_LIST: Final = """\
MAPPED is what a {0} takes in the pool, EXCLUSIVE what would come back if it were
deleted now: blocks that are shared with others are in MAPPED alone.

examples:
  thinpool-csi {0}s
  thinpool-csi {0}s --output json | jq -r '.{0}s[] | select(.active) | .handle'
"""

_CHECK: Final = """\
Compares each pool's catalog with the pool's own metadata and changes nothing.

exit status:
  0  nothing found
  1  findings, one a line
  2  could not check

examples:
  thinpool-csi check
  thinpool-csi check --rebuild    the catalog was lost or is an old copy: the running
                                  node takes the pool's metadata as the truth; nothing
                                  is deleted, nothing is formatted
  kubectl get pv,volumesnapshotcontents -o json | thinpool-csi check --rebuild --objects -
                                  besides, what the node finds in quarantine and the
                                  cluster names is a volume or a snapshot again
"""

_ORPHANS: Final = """\
Of the nodes' volumes and snapshots, those that no PersistentVolume and no
VolumeSnapshotContent of the cluster names. The controller looks for them each
minute, and tells of one that has been so for five. Nothing is ever
removed by itself: an orphan may be what somebody restores from.

examples:
  kubectl exec -n thinpool-csi deploy/thinpool-csi-controller -c controller -- thinpool-csi orphans
  thinpool-csi orphans --remove vq3kxnc5ha-0000002a
      In the controller's container, which can reach the nodes. Refused if an object
      names it by now, or if it is in use. With a member of a group goes the group.
"""

_DEACTIVATE: Final = """\
Nothing is deleted: the next 'thinpool-csi node' finds the pools again. Refused while
a node serves them or a volume is in use.

examples:
  thinpool-csi deactivate
  thinpool-csi deactivate --pools pools.yaml
"""

_REPAIR: Final = """\
For a pool that is closed with the condition NeedsRepair. No node may serve it (one that
could not open it may run, and opens it afterwards) and no volume of it may be in use.
Without --yes nothing is changed, and what would be done is said: if thin_check finds the
metadata sound, the kernel's mark is taken away; else what can be read of it is
written anew, verified, and put in its place. The old metadata is kept.

exit status:
  0  nothing is lost
  1  volumes or snapshots are lost, each is named, or all of them are suspect
  2  not repaired; the metadata is as it was

examples:
  thinpool-csi repair --pool fast --pools pools.yaml          say what would be done
  thinpool-csi repair --pool fast --pools pools.yaml --yes    do it
  thinpool-csi repair --pool fast --node-name node-a          in a cluster's node
"""

_DEMO: Final = """\
Everything happens in one new directory below --dir, on two sparse files, and is gone
afterwards. It needs root, a kernel with dm-thin, and about 1 GiB of space.

examples:
  thinpool-csi demo
  thinpool-csi demo --dir /mnt/scratch --fs-type xfs
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; the parsed options carry the subcommand's module as ``module``."""
    top = argparse.ArgumentParser(
        prog="thinpool-csi",
        description="Kubernetes volumes and snapshots as device-mapper thin devices.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
    )
    top.add_argument("--version", action="version", version=f"thinpool-csi {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_node(commands)
    _add_controller(commands)
    _add_questions(commands)
    _add_orphans(commands)
    _add_deactivate(commands)
    _add_repair(commands)
    _add_demo(commands)
    return top


_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse gives the type of add_subparsers no public name


def _add(commands: "_Commands[argparse.ArgumentParser]", name: str, says: str, epilog: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=says,
        description=f"{says[0].upper()}{says[1:]}.",
        epilog=epilog,
        formatter_class=_Formatter,
    )
    command.set_defaults(module=f"csi.cli.{name}")
    return command


def _add_node(commands: "_Commands[argparse.ArgumentParser]") -> None:
    node = _add(commands, "node", "serve this node's pools over CSI", _NODE)
    _add_endpoint(node, "where to serve (default: %(default)s)")
    _add_place(node)
    node.add_argument(
        "--registration-dir",
        type=Path,
        metavar="DIR",
        help="the kubelet's plugins_registry; not given: no registration",
    )
    node.add_argument("--metrics", metavar="HOST:PORT", help="serve /metrics, /healthz and /readyz there")
    cluster = node.add_argument_group("in a cluster")
    cluster.add_argument(
        "--cluster", action="store_true", help="serve the pools that the cluster's ThinPools want here"
    )
    cluster.add_argument("--listen", metavar="HOST:PORT", help="where the controllers reach this node")
    cluster.add_argument("--namespace", metavar="NAME", help="the namespace of the driver")
    cluster.add_argument(
        "--controllers-config", metavar="NAME", help="the ConfigMap with the controllers' certificates"
    )
    _add_kubeconfig(cluster)
    _add_log(node, "json", "info")


def _add_controller(commands: "_Commands[argparse.ArgumentParser]") -> None:
    controller = _add(commands, "controller", "route a cluster's requests to its nodes", _CONTROLLER)
    controller.add_argument(
        "--endpoint", default=CONTROLLER_ENDPOINT, metavar="unix://PATH", help="where to serve (default: %(default)s)"
    )
    controller.add_argument(
        "--metrics",
        default="0.0.0.0:9812",
        metavar="HOST:PORT",
        help="serve /metrics, /healthz and /readyz there (default: %(default)s)",
    )
    controller.add_argument("--namespace", required=True, metavar="NAME", help="the namespace of the driver")
    controller.add_argument("--pod-name", default=os.uname().nodename, metavar="NAME", help="default: the host's name")
    controller.add_argument(
        "--controllers-config", required=True, metavar="NAME", help="the ConfigMap for the controllers' certificates"
    )
    controller.add_argument(
        "--pools-config", default="", metavar="NAME", help="a ConfigMap that lists ThinPools to be made, in pools.yaml"
    )
    controller.add_argument(
        "--orphan-after",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="tell of a volume or snapshot that no object names for so long (default: 300)",
    )
    controller.add_argument("--lease", required=True, metavar="NAME", help="the lease by which one controller leads")
    _add_kubeconfig(controller)
    _add_log(controller, "json", "info")


def _add_questions(commands: "_Commands[argparse.ArgumentParser]") -> None:
    for name, says, epilog in (
        ("info", "show the pools: space, metadata, health", _INFO),
        ("volumes", "list the volumes and what they really take", _LIST.format("volume")),
        ("snapshots", "list the snapshots and what they really take", _LIST.format("snapshot")),
        ("check", "compare the catalogs with the pools' metadata", _CHECK),
    ):
        command = _add(commands, name, says, epilog)
        _add_endpoint(command, "where the node serves (default: %(default)s)")
        command.add_argument("--output", choices=("text", "json"), default="text", help="default: %(default)s")
        if name == "check":
            command.add_argument(
                "--rebuild", action="store_true", help="make a catalog that is behind agree with its pool first"
            )
            command.add_argument(
                "--objects",
                default="",
                metavar="FILE",
                help="with --rebuild: PersistentVolumes and VolumeSnapshotContents in JSON; -: from standard input",
            )
        _add_place(command.add_argument_group("if no node is running", "the idle pools are read, as root:"))
        _add_log(command, "console", "warning")
    commands.choices["snapshots"].set_defaults(module="csi.cli.volumes")
    commands.choices["volumes"].set_defaults(kind="volume")
    commands.choices["snapshots"].set_defaults(kind="snapshot")


def _add_orphans(commands: "_Commands[argparse.ArgumentParser]") -> None:
    orphans = _add(commands, "orphans", "list what the nodes hold and nothing in the cluster names", _ORPHANS)
    orphans.add_argument("--remove", action="append", metavar="HANDLE", help="remove this one; may be repeated")
    orphans.add_argument(
        "--endpoint",
        default=CONTROLLER_ENDPOINT,
        metavar="unix://PATH",
        help="where the controller serves (default: %(default)s)",
    )
    orphans.add_argument("--output", choices=("text", "json"), default="text", help="default: %(default)s")
    _add_kubeconfig(orphans)
    _add_log(orphans, "console", "warning")


def _add_deactivate(commands: "_Commands[argparse.ArgumentParser]") -> None:
    deactivate = _add(commands, "deactivate", "take the idle pools out of the kernel", _DEACTIVATE)
    _add_place(deactivate)
    _add_log(deactivate, "console", "error")


def _add_repair(commands: "_Commands[argparse.ArgumentParser]") -> None:
    repair = _add(commands, "repair", "repair the metadata of a pool that is closed", _REPAIR)
    repair.add_argument("--pool", required=True, metavar="NAME", help="the pool")
    repair.add_argument("--yes", action="store_true", help="do it")
    _add_place(repair)
    _add_log(repair, "console", "error")


def _add_demo(commands: "_Commands[argparse.ArgumentParser]") -> None:
    demo = _add(commands, "demo", "show all of it on a pool of its own, with checksums compared", _DEMO)
    demo.add_argument(
        "--dir",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 - a new directory in it, closed to others, is what is used
        metavar="DIR",
        help="a directory on a real file system, with sparse files (default: %(default)s)",
    )
    demo.add_argument(
        "--fs-type", choices=("ext4", "xfs", "btrfs"), default="ext4", help="of the demo's volumes (default: ext4)"
    )


def _add_endpoint(command: argparse.ArgumentParser, says: str) -> None:
    command.add_argument("--endpoint", default=ENDPOINT, metavar="unix://PATH", help=says)


def _add_place(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--pools", type=Path, metavar="FILE", help="YAML; not given: one loop-lvm pool, for development"
    )
    command.add_argument("--node-name", default=os.uname().nodename, metavar="NAME", help="default: the host's name")
    for option, default, says in (
        ("--state-dir", "/var/lib/thinpool-csi", "kept over a reboot: loop files"),
        ("--run-dir", "/run/thinpool-csi", "gone with a reboot: mounts of catalogs"),
        ("--kubelet-dir", "/var/lib/kubelet", "volumes are mounted below it, and nowhere else"),
    ):
        command.add_argument(
            option, type=_absolute, default=Path(default), metavar="DIR", help=f"{says} (default: %(default)s)"
        )


def _add_kubeconfig(command: argparse._ActionsContainer) -> None:
    command.add_argument("--kubeconfig", default="", metavar="FILE", help="default: as the pod's service account")


def _add_log(command: argparse.ArgumentParser, form: str, level: str) -> None:
    command.add_argument("--log-format", choices=("json", "console"), default=form, help="default: %(default)s")
    command.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default=level, help="default: %(default)s"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _DAY:
        message = f"{text!r} is not a number of seconds from 1 to {_DAY}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        message = f"{text!r} is not an absolute path"
        raise argparse.ArgumentTypeError(message)
    return path
