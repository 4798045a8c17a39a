"""A node with 10,000 volumes: its start, its lists, its memory."""

import signal
import sys
from typing import Final

from bench.calls import empty
from bench.flat import CROWD, fill_to_volumes
from bench.node import Starter, in_cluster, resident
from bench.rig import Rig
from bench.sample import Sample, timed
from bench.shipped import as_shipped
from csi.process import run as run_program

_PAGE: Final = 500
_DEADLINE: Final = 300.0
_IMPORTS: Final = "import csi.__main__, csi.cli.node, csi.rpc.server, csi.rpc.registration"


def run(rig: Rig) -> None:
    """List in this process, then start others."""
    crowd = rig.crowd
    count = rig.few(CROWD, 100)
    fill_to_volumes(rig, crowd, count)
    _list(rig, count)
    _start(rig)
    (disk,) = crowd.served.spec.devices
    rig.report.tell("a node in a cluster")
    with crowd.released(), as_shipped(rig.shipped), in_cluster(rig.base / "crowded", disk) as host:
        before = resident(host)
        rig.caller.listing(str(host.socket), _PAGE)
        memory = resident(host)
    note = f"VmRSS, {count} volumes, {before:.0f} MiB before they were listed"
    rig.report.add("rss_node_10k_mib", memory, note)


def _list(rig: Rig, count: int) -> None:
    crowd, caller = rig.crowd, rig.caller
    rig.report.tell("lists")
    whole, none = [], []
    for _ in range(rig.few(5, 1)):
        none += [each.seconds for each in caller.calls([empty(crowd.empty_socket)] * 40)]
        seconds, found = caller.listing(crowd.socket, _PAGE)
        if found != count:
            message = f"{found} volumes were listed, {count} are there"
            raise ValueError(message)
        whole.append(seconds)
    listing, calls = Sample.of(whole), Sample.of(none)
    rig.report.add("list_10k", listing.median / count / calls.median, f"{count} volumes", lists=listing, empty=calls)


def _start(rig: Rig) -> None:
    crowd = rig.crowd
    pool = crowd.pool
    (disk,) = crowd.served.spec.devices
    starter = Starter(rig.base / "starter", crowd.served.base / "state", crowd.served.spec.name, disk)
    starts, lists, interpreters = [], [], []
    with crowd.released(), as_shipped(rig.shipped):
        for _ in range(rig.few(5, 1)):
            rig.report.tell("start of a node")
            starts.append(timed(starter.start))
            # Told to end while it still starts, it would break that off.
            rig.caller.calls([(starter.socket, "/csi.v1.Identity/Probe", {})])
            starter.stop(signal.SIGTERM)
            with pool.thin.metadata_snap():
                argv = ["thin_ls", "--metadata-snap", "--format", "DEV", pool.thin.metadata_path]
                lists.append(timed(lambda argv=argv: run_program(argv, deadline=_DEADLINE)))  # type: ignore[misc]
            argv = [sys.executable, "-c", _IMPORTS]
            env = {"PYTHONPATH": str(rig.shipped), "PYTHONSAFEPATH": "1"}
            interpreters.append(timed(lambda argv=argv, env=env: run_program(argv, deadline=_DEADLINE, env=env)))  # type: ignore[misc]
    ours, listing, interpreter = Sample.of(starts), Sample.of(lists), Sample.of(interpreters)
    rig.report.add(
        "start_10k_vs_thin_ls",
        ours.median / (listing.median + interpreter.median),
        start=ours,
        thin_ls=listing,
        interpreter=interpreter,
    )
