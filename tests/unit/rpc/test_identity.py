"""Who the plugin is, and every capability that is advertised."""

from csi import __version__
from csi.pb.csi.v1 import csi_pb2 as pb
from tests.unit.rpc.conftest import Stubs
from tests.unit.rpc.fake import FakeNode

Service = pb.PluginCapability.Service
Rpc = pb.ControllerServiceCapability.RPC


def test_the_plugin_tells_its_name_and_version(stubs: Stubs) -> None:
    info = stubs.identity.GetPluginInfo(pb.GetPluginInfoRequest())
    assert (info.name, info.vendor_version) == ("thinpool-csi.dev", __version__)


def test_the_plugin_has_every_service_and_grows_volumes_in_use(stubs: Stubs) -> None:
    found = stubs.identity.GetPluginCapabilities(pb.GetPluginCapabilitiesRequest()).capabilities
    assert {each.service.type for each in found if each.HasField("service")} == {
        Service.CONTROLLER_SERVICE,
        Service.VOLUME_ACCESSIBILITY_CONSTRAINTS,
        Service.GROUP_CONTROLLER_SERVICE,
        Service.SNAPSHOT_ACCESSIBILITY_CONSTRAINTS,
    }
    online = pb.PluginCapability.VolumeExpansion.ONLINE
    assert [each.volume_expansion.type for each in found if each.HasField("volume_expansion")] == [online]


def test_probe_tells_not_ready_without_an_error(stubs: Stubs, fake: FakeNode) -> None:
    assert stubs.identity.Probe(pb.ProbeRequest()).ready.value
    fake.is_ready = False
    answer = stubs.identity.Probe(pb.ProbeRequest())
    assert answer.HasField("ready")
    assert not answer.ready.value


def test_what_needs_attachment_or_modification_is_not_among_the_capabilities(stubs: Stubs) -> None:
    found = stubs.controller.ControllerGetCapabilities(pb.ControllerGetCapabilitiesRequest()).capabilities
    assert {each.rpc.type for each in found} == set(Rpc.Type.values()) - {
        Rpc.UNKNOWN,
        Rpc.PUBLISH_UNPUBLISH_VOLUME,
        Rpc.PUBLISH_READONLY,
        Rpc.LIST_VOLUMES_PUBLISHED_NODES,
        Rpc.MODIFY_VOLUME,
    }


def test_the_node_has_every_capability_but_mount_groups(stubs: Stubs) -> None:
    rpc = pb.NodeServiceCapability.RPC
    found = stubs.node.NodeGetCapabilities(pb.NodeGetCapabilitiesRequest()).capabilities
    assert {each.rpc.type for each in found} == set(rpc.Type.values()) - {rpc.UNKNOWN, rpc.VOLUME_MOUNT_GROUP}


def test_group_snapshots_are_advertised(stubs: Stubs) -> None:
    found = stubs.group.GroupControllerGetCapabilities(pb.GroupControllerGetCapabilitiesRequest()).capabilities
    kind = pb.GroupControllerServiceCapability.RPC.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT
    assert [each.rpc.type for each in found] == [kind]
