"""What the cluster wanted last, kept on the node: a plugin that starts while the API is away serves the same pools."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from csi import durable
from csi.errors import KernelError
from csi.kube.api import Object

log = structlog.get_logger()


class Memory:
    """A file with the ThinPools and ThinPoolNodes of pools that were made here."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept = ""

    def keep(self, pools: Mapping[str, Object], pool_nodes: Iterable[Object], known: Mapping[str, str]) -> None:
        """Keep what is needed of them, if it is not what was kept last. What cannot be written is logged.

        ``known`` are the ids of the pools, by name.
        """
        made = {each["spec"]["poolName"]: each for each in pool_nodes if known.get(each["spec"]["poolName"])}
        kept = {
            "pools": [_part(pools[name]) for name in sorted(made) if name in pools],
            "poolNodes": [
                _part(each) | {"status": {"poolID": known[name]}}
                for name, each in sorted(made.items())
                if name in pools
            ],
        }
        text = json.dumps(kept, sort_keys=True)
        if text == self._kept:
            return
        try:
            durable.write(self._file, text)
        except KernelError as error:
            log.warning("what is wanted is not kept", why=str(error))
            return
        self._kept = text

    def recall(self) -> list[tuple[Object, Object]]:
        """Return each ThinPoolNode that was kept, after its ThinPool; nothing if there is no file that can be read."""
        try:
            kept = json.loads(self._file.read_text())
            pools = {each["metadata"]["name"]: each for each in kept["pools"]}
            return [(pools[each["spec"]["poolName"]], each) for each in kept["poolNodes"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("what was wanted last is not known", file=str(self._file), why=repr(error))
            return []


def _part(each: Object) -> dict[str, Any]:
    """Return what counts of an object: what is wanted."""
    metadata = {key: each["metadata"][key] for key in ("name", "uid", "generation") if key in each["metadata"]}
    return {"metadata": metadata, "spec": each.get("spec", {})}
