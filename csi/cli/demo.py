"""``thinpool-csi demo``: everything that the driver exists for, on a pool of its own, with the data compared."""

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from typing import NoReturn

from csi import __version__
from csi.cli.account import Account, DemoError
from csi.cli.own_node import OwnNode
from csi.errors import DriverError


def run(options: argparse.Namespace) -> int:
    """Run the demo; 1, with a line on standard error, if anything did not come out as it should."""
    if os.geteuid() != 0:
        print("thinpool-csi: the demo makes devices and mounts; run it as root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _ended)
    try:
        return _play(options)
    except (DemoError, DriverError) as error:
        print(f"thinpool-csi: demo failed: {error}", file=sys.stderr)
        return 1


def _play(options: argparse.Namespace) -> int:
    from csi.cli import demo_steps, info  # noqa: PLC0415 - gRPC takes a second to load
    from csi.cli.kubelet import Kubelet  # noqa: PLC0415 - as above

    account = Account(len(demo_steps.STEPS))
    host = os.uname()
    print(f"thinpool-csi {__version__}, a demonstration on {host.nodename} ({host.sysname} {host.release})")
    with ExitStack() as stack:
        node = stack.enter_context(OwnNode.below(options.dir, account))
        kubelet = Kubelet(node.socket, node.kubelet, options.fs_type)
        stack.callback(kubelet.close)
        stack.callback(kubelet.release_all)
        stack.push(lambda kind, *_rest: _ending(kind, node))
        demo_steps.play(demo_steps.Stage(account, node, kubelet))
        print(f"\n$ thinpool-csi info\n\n{info.as_text(kubelet.node())}\n", flush=True)
        status = node.stop()
        if status:
            message = f"the node ended with exit status {status}"
            raise DemoError(message)
    print(f"All {account.checks} checks passed, in {account.elapsed:.0f} s. Nothing of it is left.")
    return 0


def _ending(kind: type[BaseException] | None, node: OwnNode) -> None:
    """Say that the end takes a moment, and see that it is not broken off as well."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if kind is not None:
        if issubclass(kind, DemoError):
            sys.stderr.writelines(f"      node: {line}\n" for line in node.last_words())
        print("\nthinpool-csi: breaking off and tidying up", file=sys.stderr)


def _ended(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
