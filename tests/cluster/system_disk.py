"""The disk that a node boots with: an ext4 file system in which containerd finds all images, imported here.

In a guest the import takes a minute, here ten seconds, once for each set of images.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Final

from tests.cluster import archive, image
from tests.cluster.programs import SIDECARS, Programs
from tests.guest.machine import cache_directory

TEST_IMAGE: Final = "busybox:1.37"
"""For the tests' pods, by the name that deploy/examples have for it: this machine's busybox, which sleeps unless told
otherwise. It holds the pods' namespaces too."""

_SIZE: Final = "24G"
_BUSYBOX: Final = "/usr/bin/busybox"
_SCRIPT: Final = os.path.join(os.path.dirname(__file__), "import.sh")
_LIMIT: Final = 300.0
_SHORT_LIMIT: Final = 20.0
_DIRECTORIES: Final = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var")


def provide(path: str, built: Programs) -> None:
    """Make ``path`` such a disk, from the one that was made last if the images are the same. Do not write to it."""
    driver = image.driver_archive()
    disk = os.path.join(cache_directory(), f"node-{os.path.basename(built.directory)}-{os.path.basename(driver)}.ext4")
    with image.one_at_a_time():
        if not os.path.exists(disk):
            for name in os.listdir(cache_directory()):
                if re.fullmatch(r"node-.*\.ext4", name):
                    os.unlink(os.path.join(cache_directory(), name))
            _make(disk, built, driver)
        copy(disk, path)


def copy(source: str, path: str) -> None:
    """Copy a disk; what is not written in it takes no room."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, path], check=True, timeout=_LIMIT)


def _make(disk: str, built: Programs, driver: str) -> None:
    with tempfile.TemporaryDirectory(dir=cache_directory()) as scratch:
        others = os.path.join(scratch, "images.tar")
        archive.write(others, _images(built))
        tree = os.path.join(scratch, "tree")
        made = os.path.join(scratch, "disk")
        # In namespaces of its own: what it starts and mounts ends with it.
        _run(
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", _SCRIPT, built.path(""), tree, others, driver
        )
        _run("mkfs.ext4", "-q", "-d", tree, made, _SIZE)
        os.rename(made, disk)


def _images(built: Programs) -> Sequence[archive.Image]:
    """Return the images that are needed beside the driver's: the side-cars', and the one for the tests' pods."""
    applets = subprocess.run([_BUSYBOX, "--list"], stdout=subprocess.PIPE, text=True, check=True, timeout=_SHORT_LIMIT)
    test = archive.Image(
        f"docker.io/library/{TEST_IMAGE}",
        {"bin/busybox": _BUSYBOX},
        command=("sleep", "2147483647"),
        links={f"bin/{name}": "busybox" for name in applets.stdout.split() if name != "busybox"},
        directories=_DIRECTORIES,
    )
    return [
        test,
        *(
            archive.Image(built.sidecar_image(name), {name: built.path(name)}, entrypoint=(f"/{name}",))
            for name in SIDECARS
        ),
    ]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_LIMIT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()[-4000:]}")
