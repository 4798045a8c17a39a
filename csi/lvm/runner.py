"""Running LVM: argument lists, one configuration, a deadline for each command, JSON reports.

What LVM does here depends on the arguments alone:

- ``--devices`` names exactly the pool's own disks (lvm.conf(5), ``devices/use_devicesfile``: the option overrides the
  devices file). No command opens a foreign disk, which may hang, or one of our own volumes, which may hold a PV of its
  owner's.
- ``LVM_SYSTEM_DIR`` is empty: LVM then reads no lvm.conf, no lvmlocal.conf, no profile and no devices file. A filter,
  a ``volume_list`` or a lock manager configured for the host's own volumes would change what happens to a pool, and a
  container sees the image's files, not the host's. What must be shared with the host is compiled in: the locks in
  /run/lock/lvm.
- Everything else is in one ``--config``. LVM reloads the table of a pool from its settings, so each command carries
  all of them: without the threshold the pool's low-water mark would become 0 and its event would come too late.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from csi import process
from csi.errors import CommandError
from csi.lvm.values import Report, parse_doubled, parse_report

REPORT_DEADLINE: Final = 60.0
CHANGE_DEADLINE: Final = 180.0
LONG_DEADLINE: Final = 900.0
"""For what goes through all metadata: activation and deactivation run thin_check, creation writes zeros."""

_SYSTEM_ID: Final = re.compile(r"[a-zA-Z0-9._-]{1,128}")
# The low-water mark is what the threshold leaves free (lib/thin/thin.c); at 100 there is none, and with extension
# switched off the event is still wanted in time for a warning.
_HIGHEST_THRESHOLD: Final = 95
# Said by every command, since backups of the metadata are switched off on purpose.
_NOISE: Final = "NOT be backed up", "NOT backed up"

_VG_FIELDS: Final = (
    "vg_name,vg_uuid,vg_systemid,vg_tags,vg_extent_size,vg_extent_count,vg_free_count,vg_missing_pv_count"
)
_PV_FIELDS: Final = "pv_name,pv_uuid,pv_major,pv_minor,pv_size,pv_free,pv_missing,pv_in_use"
_LV_FIELDS: Final = (
    "lv_name,lv_uuid,lv_size,lv_tags,lv_layout,lv_active,lv_kernel_minor,lv_health_status,lv_check_needed,lv_when_full"
)


_Read = TypeVar("_Read")


def system_id(node_name: str) -> str:
    """Return the LVM system id of a node: ``thinpool-csi.<node name>``.

    LVM drops characters it does not know and takes 128 at most (lvmsystemid(7)). Two nodes must never get one id, so
    a name that does not fit is shortened and its hash appended.
    """
    plain = f"thinpool-csi.{node_name}"
    if _SYSTEM_ID.fullmatch(plain):
        return plain
    digest = hashlib.sha256(node_name.encode()).hexdigest()[:32]
    return f"{re.sub('[^a-zA-Z0-9._-]', '-', plain)[:90]}.{digest}"


class Lvm:
    """LVM as it sees exactly the disks given, and nothing of the host's own configuration."""

    def __init__(self, devices: Sequence[str], system_id: str, *, threshold: int = 80, path: str | None = None) -> None:
        """Take the pool's disks, the node's system id, the use in percent at which the pool's event is to come.

        ``path`` replaces the directories that programs are looked for in.
        """
        self.devices = tuple(devices)
        self.system_id = system_id
        self.path = path
        self._threshold = min(threshold, _HIGHEST_THRESHOLD)

    def run(
        self,
        command: str,
        *args: str,
        deadline: float = CHANGE_DEADLINE,
        acting_for: str = "",
        clear_needs_check: bool = False,
        zero_metadata: bool = True,
    ) -> str:
        """Run one LVM command and return its standard output.

        ``acting_for`` is another system id whose VG the command may change; ``clear_needs_check`` lets the thin_check
        of an activation clear the pool's flag if it finds no damage (thin_check(8)); ``zero_metadata`` has new
        metadata written with zeros throughout, so that no repair ever finds a former pool's in it. Raise CommandError,
        with what LVM said, for an exit status other than 0 and at the deadline.
        """
        subject = " ".join(("lvm", command, *args))
        argv = ["lvm", command, *(word for device in self.devices for word in ("--devices", device))]
        argv += ["--config", self._config(acting_for, clear_needs_check, zero_metadata), *args]
        env = {"LVM_SYSTEM_DIR": "", **({"PATH": self.path} if self.path else {})}
        try:
            done = process.run(argv, deadline=deadline, env=env, ok=range(256))
        except CommandError as error:
            raise CommandError("run", subject, error.why, errno=error.errno, way_out=error.way_out) from error
        if done.status != 0:
            lines = (done.stderr or done.stdout).splitlines()
            said = "; ".join(line.strip() for line in lines if not any(noise in line for noise in _NOISE))
            raise CommandError("run", subject, f"exit status {done.status}: {said or 'no message'}")
        return done.stdout

    def report(self, *vg_names: str) -> Report:
        """Return the VGs on the disks (all, or those named) with their PVs and LVs, foreign ones too. One command."""
        text = self.run(
            "fullreport",
            *("--all", "--foreign", "--shared", "--reportformat", "json", "--units", "b", "--nosuffix"),
            *("--configreport", "vg", "--options", _VG_FIELDS),
            *("--configreport", "pv", "--options", _PV_FIELDS),
            *("--configreport", "lv", "--options", _LV_FIELDS),
            *("--configreport", "seg", "--options", "lv_uuid,chunk_size"),
            *("--configreport", "pvseg", "--options", "pvseg_start"),
            *vg_names,
            deadline=REPORT_DEADLINE,
        )
        return _read(parse_report, text)

    def doubled(self) -> frozenset[str]:
        """Return the PV UUIDs that more than one of the disks shows; a full report names only one of each. One command.

        LVM would choose one by itself, and perhaps the other one next time: two paths to one disk do no harm, but a
        disk and its copy do.
        """
        options = ("--all", "--reportformat", "json", "--options", "pv_uuid,pv_duplicate")
        return _read(parse_doubled, self.run("pvs", *options, deadline=REPORT_DEADLINE))

    def _config(self, acting_for: str, clear_needs_check: bool, zero_metadata: bool) -> str:  # noqa: FBT001
        check = '["-q","--clear-needs-check-flag"]' if clear_needs_check else '["-q"]'
        extra = f' extra_system_ids=["{acting_for}"]' if acting_for else ""
        return " ".join(
            (
                f"activation{{monitoring=0 thin_pool_autoextend_threshold={self._threshold}",
                # udev may run here, on the host beneath, or nowhere: LVM makes its nodes itself and waits for nobody.
                "udev_sync=0 udev_rules=0 verify_udev_operations=0}",
                f"allocation{{zero_metadata={int(zero_metadata)}}}",
                "backup{backup=0 archive=0}",
                'devices{obtain_device_list_from_udev=0 external_device_info_source="none" hints="none"}',
                "global{event_activation=0 notify_dbus=0 use_lvmlockd=0 use_lvmpolld=0",
                f'system_id_source="lvmlocal" thin_check_options={check}}}',
                f'local{{system_id="{self.system_id}"{extra}}}',
                "log{syslog=0}",
                "report{mark_hidden_devices=0}",
            )
        )


def _read(parse: Callable[[str], _Read], text: str) -> _Read:
    try:
        return parse(text)
    except ValueError as error:
        raise CommandError("read report of", "lvm", str(error)) from error
