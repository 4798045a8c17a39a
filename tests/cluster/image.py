"""The driver's image, built here: ``python -m tests.cluster.image`` prints the archive and the image's name and size.

The repository's Dockerfile is built unchanged, on a base that Debian's packages are made into by this machine's own
package sources. How this machine reaches its sources (proxies, certificates, a mirror of the Python index) is there
while the build runs and in no image.
"""

import ast
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import csi
from tests.guest.machine import ROOT, cache_directory

NAME: Final = f"docker.io/library/thinpool-csi:{csi.__version__}"
"""The image's whole name; in a pod, ``thinpool-csi:<version>``."""

_BASE: Final = "docker.io/library/debian:trixie-slim"
_SUITE: Final = "trixie"
# As Debian's own slim image leaves them out.
_LEFT_OUT: Final = ("doc", "groff", "info", "linda", "lintian", "locale", "man")
_BUILD_LIMIT: Final = 1200.0
_LIMIT: Final = 120.0
_SETTING: Final = re.compile(r'Acquire::(https?|Check-\w[\w-]*|Retries)(::[\w:.-]*)? ".+";')
_INDEX: Final = frozenset({"index-url", "extra-index-url", "trusted-host", "proxy", "cert"})


def main() -> None:
    """Build what is missing and say what is there."""
    archive = driver_archive()
    print(f"{NAME}\n{archive}\n{os.stat(archive).st_size >> 20} MiB, unpacked")


def driver_archive() -> str:
    """Return the archive of the driver's image, built unless one of the same sources is there."""
    archive = os.path.join(cache_directory(), f"image-{_sources()}.tar")
    with one_at_a_time():
        if not os.path.exists(archive):
            _build(archive)
    return archive


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until nobody else is at the images in the cache directory, and keep others from them."""
    os.makedirs(cache_directory(), exist_ok=True)
    with open(os.path.join(cache_directory(), "image.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sources() -> str:
    """Return a digest of all that goes into the image; the base's packages count by the month."""
    digest = hashlib.sha256(time.strftime("%Y-%m").encode())
    for path in ("Dockerfile", ".dockerignore", *_sent()):
        digest.update(path.encode() + b"\0")
        with open(os.path.join(ROOT, path), "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _sent() -> list[str]:
    """Return what the build is sent: the entries that .dockerignore excepts."""
    with open(os.path.join(ROOT, ".dockerignore")) as file:
        entries = [line[1:].strip() for line in file if line.startswith("!")]
    files = []
    for entry in entries:
        if os.path.isdir(os.path.join(ROOT, entry)):
            for parent, directories, names in os.walk(os.path.join(ROOT, entry)):
                directories[:] = [name for name in directories if name != "__pycache__"]
                files += [os.path.relpath(os.path.join(parent, name), ROOT) for name in names]
        else:
            files.append(entry)
    return sorted(files)


def _build(archive: str) -> None:
    for left in os.listdir(cache_directory()):
        if re.fullmatch(r"image-[0-9a-f]{16}\.tar", left):
            os.unlink(os.path.join(cache_directory(), left))
    with tempfile.TemporaryDirectory(dir=cache_directory()) as scratch:
        storage = _storage(scratch)
        home = os.path.join(scratch, "home")
        _write_pip_settings(home)
        settings = os.path.join(scratch, "apt")
        _write_apt_settings(settings)
        _say("building the driver's image")
        # The two directories are in the base already: no mount point is left in the image.
        _run(
            *(*storage, "build", "--isolation=chroot", "--pull-never", "--layers", "--quiet"),
            *(f"--volume={home}:/root", f"--volume={settings}:/etc/apt/apt.conf.d:ro"),
            *(f"--tag={NAME}", "--file=Dockerfile", ROOT),
        )
        made = os.path.join(scratch, "image.tar")
        _run(*storage, "push", "--quiet", NAME, f"docker-archive:{made}:{NAME}")
        os.rename(made, archive)


def _storage(scratch: str) -> tuple[str, ...]:
    """Return buildah's command on a storage of our own that holds this month's base, made if need be."""
    month = time.strftime("%Y-%m")
    parent = os.path.join(cache_directory(), "buildah")
    root = os.path.join(parent, month)
    command = ("buildah", "--root", root, "--runroot", os.path.join(scratch, "run"), "--storage-driver=overlay")
    if not os.path.isdir(root):
        shutil.rmtree(parent, ignore_errors=True)
        os.makedirs(parent)
    if _BASE not in _run(*command, "images", "--format={{.Name}}:{{.Tag}}").split():
        _say("making the base image from Debian's packages")
        tree = os.path.join(scratch, "base.tar")
        _make_base(tree)
        container = _run(*command, "from", "scratch").strip()
        _run(*command, "add", "--quiet", container, tree, "/")
        _run(*command, "config", "--cmd=bash", container)
        _run(*command, "commit", "--quiet", "--rm", container, _BASE)
        os.unlink(tree)
    return command


def _make_base(tree: str) -> None:
    mirrors = _run("apt-get", "indextargets", "--format=$(ORIGIN) $(REPO_URI)", "Created-By: Packages").splitlines()
    debian = [uri for origin, uri in (line.split() for line in mirrors) if origin == "Debian" and "security" not in uri]
    _run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=tar"),
        *(f"--aptopt={setting}" for setting in _apt_settings()),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        *(_SUITE, tree, *debian[:1]),
    )


def _apt_settings() -> list[str]:
    """Return how this machine's apt reaches its sources."""
    return [line for line in _run("apt-config", "dump", "Acquire").splitlines() if _SETTING.fullmatch(line)]


def _write_apt_settings(directory: str) -> None:
    os.makedirs(directory)
    with open(os.path.join(directory, "machine"), "x") as file:
        file.write("".join(f"{line}\n" for line in (*_apt_settings(), 'APT::Sandbox::User "root";')))


def _write_pip_settings(home: str) -> None:
    """Write a home directory in which pip finds what this machine's pip is told about its index."""
    os.makedirs(os.path.join(home, ".config/pip"))
    settings: dict[str, str] = {}
    for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _INDEX:
            settings[name] = ast.literal_eval(value)
    if "cert" in settings:
        shutil.copy(settings["cert"], os.path.join(home, "certificates"))
        settings["cert"] = "/root/certificates"
    with open(os.path.join(home, ".config/pip/pip.conf"), "x") as file:
        file.write("[global]\n")
        for name, value in settings.items():
            file.write(f"{name} = " + value.replace("\n", "\n    ") + "\n")


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_LIMIT,
        cwd=ROOT,
        env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise RuntimeError(f"{shlex.join(argv[:8])} … ended with status {done.returncode}:\n{tail}")
    return done.stdout


def _say(what: str) -> None:
    print(f"image: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
