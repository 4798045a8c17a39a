"""A thousand volumes asked for at once, as when a cluster comes up."""

from bench.calls import create_volume, empty
from bench.our_pool import SIZE
from bench.rig import Rig
from bench.sample import Sample

_AT_ONCE = 64


def run(rig: Rig) -> None:
    """Make the volumes, and as many empty calls, in turns."""
    ours, caller = rig.ours, rig.caller
    count = rig.few(1000, 100)
    nothing = [empty(ours.empty_socket)] * count
    caller.burst(nothing[:_AT_ONCE], _AT_ONCE)
    made, none = [], []
    for number in range(rig.few(3, 1)):
        rig.report.tell(f"burst {number + 1}: {count} empty calls, {count} volumes")
        none.append(caller.burst(nothing, _AT_ONCE)[0])
        orders = [create_volume(ours.socket, ours.name("burst"), SIZE) for _ in range(count)]
        seconds, answers = caller.burst(orders, _AT_ONCE)
        made.append(seconds)
        ours.delete_ids([each.value["volume"]["volume_id"] for each in answers])
    volumes, calls = Sample.of(made), Sample.of(none)
    note = f"{count / volumes.median:.0f} volumes/s, {count / calls.median:.0f} empty calls/s"
    rig.report.add("burst_vs_limit", calls.median / volumes.median, note, volumes=volumes, calls=calls)
