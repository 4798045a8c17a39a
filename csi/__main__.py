"""The command ``thinpool-csi``, also as ``python -m csi``: reads the arguments and runs one subcommand.

A subcommand's module is imported only once it is known which: ``node`` forks the guard of freezes before anything
starts a thread, and ``--help`` answers without gRPC.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from csi.cli.arguments import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; argparse ends the process itself (2) for wrong usage."""
    options = parser().parse_args(arguments)
    run: Callable[..., int] = importlib.import_module(options.module).run
    try:
        return run(options)
    except KeyboardInterrupt:
        sys.stderr.write("thinpool-csi: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has had enough.
        sys.stderr.close()
        return 141


def command() -> NoReturn:
    """Run ``main`` and end the process with its status, whatever threads still wait for a disk or for the network.

    The interpreter would wait for some of them, and abort if another came back while it takes itself apart.
    """
    status = main()
    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
