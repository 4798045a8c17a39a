"""The command ``node`` as a process: it serves, is the only one, ends when told, and leaves its pool to be read."""

import signal
import stat
from pathlib import Path

from tests.kernel.cli.conftest import Host, left_over, wait_for


def test_a_node_serves_alone_and_when_it_has_ended_its_pool_is_read(host: Host) -> None:
    process = host.started()
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert (host.registry / "thinpool-csi.dev-reg.sock").is_socket()
    served = host.json("info")
    assert served["served"] is True
    (pool,) = served["pools"]
    assert pool["pool"] == "small"
    assert pool["mode_kernel"] == "rw"
    assert host.run("check").returncode == 0

    second = host.run("node", endpoint=host.base / "second.sock")
    assert second.returncode == 1
    assert "thinpool-csi: " in second.stderr
    assert "another process serves this pool" in second.stderr
    refused = host.run("deactivate")
    assert refused.returncode == 1
    assert "another process serves this pool" in refused.stderr
    elsewhere = host.run("info", endpoint=host.base / "second.sock")
    assert elsewhere.returncode == 1
    assert "a node serves it at another endpoint" in elsewhere.stderr

    assert host.end(process) == 0
    assert not host.socket.exists()
    assert not (host.registry / "thinpool-csi.dev-reg.sock").exists()

    idle = host.json("info")
    assert idle["served"] is False
    assert idle["pools"][0]["pool_id"] == pool["pool_id"]
    assert host.run("check").returncode == 0
    assert host.run("check", "--rebuild").returncode == 2


def test_a_deactivated_pool_leaves_nothing_and_is_still_read_and_found_again(host: Host) -> None:
    first = host.started()
    pool = host.json("info")["pools"][0]["pool_id"]
    assert host.end(first, signal.SIGINT) == 0
    done = host.run("deactivate")
    assert (done.returncode, done.stdout) == (0, "small: deactivated\n"), done.stderr
    assert _without_run(host) == []
    assert host.json("info")["pools"][0]["pool_id"] == pool
    assert host.run("volumes").returncode == 0
    assert _without_run(host) == []
    second = host.started()
    assert host.json("info")["pools"][0]["pool_id"] == pool
    assert host.end(second) == 0


def test_what_is_not_there_is_neither_read_nor_made(host: Host) -> None:
    asked = host.run("info")
    assert asked.returncode == 1
    assert "'thinpool-csi node' makes it" in asked.stderr
    done = host.run("deactivate")
    assert (done.returncode, done.stdout) == (0, "small: there is no such pool\n")
    assert left_over(host.base) == []
    assert not (host.base / "state" / "loop").exists()


def test_a_socket_that_somebody_removed_is_served_anew(host: Host) -> None:
    process = host.started()
    host.socket.unlink()
    wait_for(host.socket.exists, 30)
    assert host.json("info")["served"] is True
    assert host.end(process) == 0


def test_told_to_end_while_it_makes_its_pool_a_node_ends_and_the_next_start_finishes(host: Host) -> None:
    process = host.start()
    wait_for((host.base / "state" / "loop" / "small" / "metadata").exists, 60)
    assert host.end(process) == 0
    again = host.started()
    assert host.json("info")["pools"][0]["mode_kernel"] == "rw"
    assert host.end(again) == 0


def _without_run(host: Host) -> list[str]:
    # The directory of mounts stays a mount of its own: it is for this boot only.
    run = str(Path(host.base) / "run")
    return [line for line in left_over(host.base) if f" {run} " not in line]
