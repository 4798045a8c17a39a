"""What a guest needs on a processor with AMX: see xstate.c, which is built here, once for each version of it."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

PACKAGES: Final = "gcc libc6-dev"

_SOURCE: Final = Path(__file__).with_suffix(".c")
_BUILD_LIMIT: Final = 120.0


def needed() -> bool:
    """Tell whether this machine's processor has AMX."""
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def library(cache: str) -> str:
    """Return the library that goes under the guest's kernel, built into ``cache`` unless it is there; "" for none.

    Raise CalledProcessError if it does not compile.
    """
    if not needed():
        return ""
    built = os.path.join(cache, f"xstate-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so")
    if not os.path.exists(built):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            # Renamed whole: another guest may be at it too.
            made = os.path.join(scratch, "xstate.so")
            argv = ["cc", "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o", made, str(_SOURCE), "-ldl"]
            subprocess.run(argv, check=True, timeout=_BUILD_LIMIT)
            os.rename(made, built)
    return built
