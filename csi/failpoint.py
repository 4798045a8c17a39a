"""Places where a test ends the process at once, as a crash would.

``THINPOOL_CSI_FAILPOINT=<name>`` makes the process kill itself with SIGKILL when it comes to that place. Nothing else
looks at the variable, and without it a place costs one look into a dictionary.
"""

import os
import signal
from typing import Final

VARIABLE: Final = "THINPOOL_CSI_FAILPOINT"

POINTS: Final = (
    "adopt.after-mkfs",
    "adopt.after-formatted",
    "adopt.after-mount",
    "adopt.after-catalog-written",
    "adopt.after-catalog",
    "adopt.after-transaction-id",
    "adopt.after-sentinel",
    "recover.after-cover",
    "recover.after-begin",
    "recover.after-groups",
    "recover.after-snapshots",
    "recover.after-volumes",
    "rebuild.after-catalog",
    "rebuild.after-rows",
    "rebuild.after-begin",
    "rebuild.after-transaction-id",
    "activate.after-create",
    "activate.after-load",
    "create.after-intent",
    "create.after-reserve",
    "create.after-message",
    "create.after-outcome",
    "cut.after-intent",
    "cut.after-reserve",
    "cut.frozen",
    "cut.after-message",
    "cut.after-thaw",
    "cut.after-record",
    "cut.after-outcome",
    "group.after-intent",
    "group.after-reserve",
    "group.frozen",
    "group.half-cut",
    "group.after-messages",
    "group.after-thaw",
    "group.after-record",
    "group.after-outcome",
    "group-delete.after-intent",
    "grow.after-intent",
    "grow.after-reserve",
    "grow.after-load",
    "grow.after-table",
    "delete.after-intent",
    "reclaim.after-record",
    "reclaim.after-reserve",
    "reclaim.after-activate",
    "discard.half",
    "reclaim.after-discard",
    "reclaim.after-deactivate",
    "reclaim.after-message",
    "reclaim.after-forget",
    "stage.after-activate",
    "stage.after-formatting",
    "stage.after-mkfs",
    "stage.after-formatted",
    "stage.after-reserve",
    "stage.after-renew",
    "stage.after-mount",
    "publish.after-target",
    "publish.after-bind",
    "unpublish.after-unmount",
    "unpublish.after-target",
    "unstage.after-unmount",
    "unstage.after-deactivate",
    "ephemeral.after-create",
    "ephemeral.after-mount",
    "ephemeral.after-unmount",
    "ephemeral.after-deactivate",
    "repair.after-open",
    "repair.after-clear",
    "repair.after-dump",
    "repair.after-spare",
    "repair.after-draft",
    "repair.after-restore",
    "repair.after-keep",
    "repair.after-swap",
)


def hit(name: str) -> None:
    """End the process if a test asked for it here."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
