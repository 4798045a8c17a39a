"""The generated stubs as the services use them: typed, beside our own package ``csi``, with threads."""

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from csi.pb.csi.v1 import csi_pb2, csi_pb2_grpc
from csi.pb.pluginregistration.v1 import registration_pb2, registration_pb2_grpc


class Identity(csi_pb2_grpc.IdentityServicer):
    def GetPluginInfo(  # noqa: N802 - the wire's name
        self, request: csi_pb2.GetPluginInfoRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetPluginInfoResponse:
        del request, context
        return csi_pb2.GetPluginInfoResponse(name="test", manifest={"key": "value"})


class Registration(registration_pb2_grpc.RegistrationServicer):
    def GetInfo(  # noqa: N802 - the wire's name
        self, request: registration_pb2.InfoRequest, context: grpc.ServicerContext
    ) -> registration_pb2.PluginInfo:
        del request, context
        return registration_pb2.PluginInfo(type="CSIPlugin", name="test", supported_versions=["1.0.0"])


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[grpc.Channel]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    csi_pb2_grpc.add_IdentityServicer_to_server(Identity(), server)
    registration_pb2_grpc.add_RegistrationServicer_to_server(Registration(), server)
    address = f"unix://{tmp_path}/socket"
    server.add_insecure_port(address)
    server.start()
    with grpc.insecure_channel(address) as connected:
        yield connected
    server.stop(None).wait(10)


def test_a_call_reaches_the_servicer(channel: grpc.Channel) -> None:
    info = csi_pb2_grpc.IdentityStub(channel).GetPluginInfo(csi_pb2.GetPluginInfoRequest(), timeout=10)
    assert (info.name, dict(info.manifest)) == ("test", {"key": "value"})


def test_the_kubelets_registration_is_served_beside_it(channel: grpc.Channel) -> None:
    info = registration_pb2_grpc.RegistrationStub(channel).GetInfo(registration_pb2.InfoRequest(), timeout=10)
    assert (info.type, list(info.supported_versions)) == ("CSIPlugin", ["1.0.0"])


def test_a_method_left_out_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest(), timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_secret_fields_can_be_told_by_their_option() -> None:
    fields = csi_pb2.NodeStageVolumeRequest.DESCRIPTOR.fields_by_name
    secret = [name for name, field in fields.items() if field.GetOptions().Extensions[csi_pb2.csi_secret]]
    assert secret == ["secrets"]
