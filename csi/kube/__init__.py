"""The cluster's API: objects as plain mappings, by one connection. The only importer of `kubernetes`.

Of that a node needs a few modules. Its packages load all the others when they begin, 20 MiB that stay, so they begin
only when somebody asks them for more than their modules.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Final

_PACKAGES: Final = ("kubernetes", "kubernetes.client", "kubernetes.config", "kubernetes.utils")
_LENT: Final = {("kubernetes.client", "Configuration"): "kubernetes.client.configuration"}
"""What the modules that we need ask of a package, and which of its modules has it."""


def _begin_later(name: str) -> None:
    """Let a package be there, and begin when it is asked for what it has not got."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader, package = spec.loader, module_from_spec(spec)

    def begin(attribute: str) -> object:
        if module := _LENT.get((name, attribute)):
            return getattr(import_module(module), attribute)
        # Removed first: the package may ask itself.
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = begin
    sys.modules[name] = package
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, package)


for _each in _PACKAGES:
    _begin_later(_each)
