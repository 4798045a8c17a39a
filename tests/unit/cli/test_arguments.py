"""The command line's arguments, and what is loaded for them."""

import importlib
import subprocess
import sys

import pytest

from csi import __version__
from csi.cli.arguments import ENDPOINT, parser
from tests.unit.cli.conftest import Command

COMMANDS = ("node", "info", "volumes", "snapshots", "check", "deactivate", "repair", "demo")
_NEEDS = {"repair": ["--pool", "fast"]}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_that_runs_it(name: str) -> None:
    options = parser().parse_args([name, *_NEEDS.get(name, [])])
    assert callable(importlib.import_module(options.module).run)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_examples_and_fits_a_terminal(name: str, command: Command) -> None:
    said = command(name, "--help")
    assert said.status == 0
    assert f"  thinpool-csi {name}" in said.out.partition("examples:")[2]
    assert max(map(len, said.out.splitlines())) <= 90


def test_help_and_version_load_neither_grpc_nor_the_engine() -> None:
    code = (
        "import sys\n"
        "from csi.__main__ import main\n"
        "for arguments in (['--help'], ['node', '--help'], ['--version']):\n"
        "    try:\n        main(arguments)\n    except SystemExit as end:\n        assert not end.code\n"
        "heavy = {'grpc', 'google.protobuf', 'sqlite3', 'yaml', 'structlog', 'ctypes', 'kubernetes'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert f"thinpool-csi {__version__}" in done.stdout


def test_the_node_command_loads_no_grpc_before_the_guard_of_freezes_is_forked() -> None:
    code = "import sys, csi.cli.node, threading; print('grpc' in sys.modules, threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "1"]


def test_reading_idle_pools_loads_no_grpc_before_the_guard_of_freezes_is_forked() -> None:
    code = (
        "import sys, csi.cli.info, csi.cli.volumes, csi.cli.check, csi.cli.idle, csi.cli.repair\n"
        "print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False"]


def test_a_command_ends_with_its_status_though_a_thread_waits_for_a_disk_for_ever() -> None:
    code = (
        "import csi.__main__ as command, os, threading\n"
        "waits, _ = os.pipe()\n"
        "command.main = lambda: (threading.Thread(target=os.read, args=(waits, 1)).start(), print('said'), 3)[2]\n"
        "command.command()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "said\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("node", "--state-dir", "relative"),
        ("node", "--run-dir", "/run/../etc"),
        ("info", "--output", "xml"),
        ("info", "--rebuild"),
        ("node", "--log-level", "loud"),
        ("repair",),
        ("demo", "--fs-type", "vfat"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_a_usage_line(arguments: tuple[str, ...], command: Command) -> None:
    said = command(*arguments)
    assert said.status == 2
    assert said.err.startswith("usage: thinpool-csi")
    assert not said.out


def test_defaults_are_those_of_a_kubernetes_node() -> None:
    options = parser().parse_args(["node"])
    assert options.endpoint == ENDPOINT
    assert str(options.state_dir) == "/var/lib/thinpool-csi"
    assert str(options.kubelet_dir) == "/var/lib/kubelet"
    assert options.pools is None
    assert options.registration_dir is None
    assert options.log_format == "json"


def test_volumes_and_snapshots_ask_for_their_own_kind() -> None:
    kinds = {name: parser().parse_args([name]).kind for name in ("volumes", "snapshots")}
    assert kinds == {"volumes": "volume", "snapshots": "snapshot"}
