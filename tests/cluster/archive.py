"""Images without a build: a few files in one layer, as an archive that ``ctr images import`` takes.

The form is that of ``docker save``: a manifest, and for each image its configuration and its layers.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Image:
    """An image to make: ``files`` maps its paths to files here, ``links`` paths to what they point at."""

    name: str
    files: Mapping[str, str]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()


def write(path: str, images: Sequence[Image]) -> None:
    """Write ``images`` to a new archive at ``path``."""
    manifest = []
    with tarfile.open(path, "x") as archive:
        for image in images:
            layer = f"{path}.layer"
            try:
                digest = _write_layer(layer, image)
                archive.add(layer, arcname=f"{digest}.tar")
            finally:
                os.unlink(layer)
            configuration = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {
                        "Entrypoint": list(image.entrypoint),
                        "Cmd": list(image.command),
                        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                    },
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                }
            ).encode()
            name = f"{hashlib.sha256(configuration).hexdigest()}.json"
            _add(archive, name, configuration)
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": [f"{digest}.tar"]})
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _write_layer(path: str, image: Image) -> str:
    with tarfile.open(path, "w") as layer:
        for directory in image.directories:
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            layer.addfile(entry)
        for name, source in image.files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = os.stat(source).st_size, 0o755
            with open(source, "rb") as file:
                layer.addfile(entry, file)
        for name, target in image.links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
