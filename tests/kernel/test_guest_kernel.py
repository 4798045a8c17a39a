"""The kernel that the other tests here run on."""

import os
import subprocess


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout


def test_the_kernel_has_the_thin_pool_target() -> None:
    targets = dict(line.split() for line in output("dmsetup", "targets").splitlines())
    assert targets.keys() >= {"thin-pool", "thin", "linear"}
    major, minor, _ = targets["thin-pool"].removeprefix("v").split(".")
    assert (int(major), int(minor)) >= (1, 22)


def test_the_disks_that_were_asked_for_are_there_and_blank() -> None:
    disks = os.environ["THINPOOL_TEST_DISKS"].split()
    assert len(disks) == 2
    for disk in disks:
        assert int(output("blockdev", "--getsize64", disk)) == 8 << 30
        assert output("wipefs", "--noheadings", disk) == ""


def test_the_file_systems_that_volumes_may_have_can_be_mounted() -> None:
    for name in ("ext4", "xfs", "btrfs"):
        output("modprobe", name)
    supported = output("cat", "/proc/filesystems").split()
    assert {"ext4", "xfs", "btrfs"} <= set(supported)
