"""Registration with the kubelet, from the kubelet's side."""

from pathlib import Path

import grpc
import pytest
from structlog.typing import EventDict

from csi.errors import InvalidRequestError
from csi.pb.pluginregistration.v1 import registration_pb2 as pb
from csi.pb.pluginregistration.v1 import registration_pb2_grpc
from csi.rpc.registration import registration_server


def test_the_kubelet_learns_where_the_driver_is_and_tells_what_became_of_it(
    tmp_path: Path, lines: list[EventDict]
) -> None:
    server, service = registration_server(str(tmp_path), "/var/lib/kubelet/plugins/thinpool-csi.dev/csi.sock")
    assert server.path == f"{tmp_path}/thinpool-csi.dev-reg.sock"
    server.start()
    heard = [service.registered]
    with grpc.insecure_channel(f"unix:{server.path}") as channel:
        kubelet = registration_pb2_grpc.RegistrationStub(channel)
        assert kubelet.GetInfo(pb.InfoRequest(), timeout=30) == pb.PluginInfo(
            type="CSIPlugin",
            name="thinpool-csi.dev",
            endpoint="/var/lib/kubelet/plugins/thinpool-csi.dev/csi.sock",
            supported_versions=["1.0.0"],
        )
        kubelet.NotifyRegistrationStatus(pb.RegistrationStatus(plugin_registered=False, error="no such socket"))
        heard.append(service.registered)
        said = [line for line in lines if line["log_level"] == "error"]
        assert [line["reason"] for line in said] == ["no such socket"]
        kubelet.NotifyRegistrationStatus(pb.RegistrationStatus(plugin_registered=True))
        heard.append(service.registered)
    assert heard == [None, False, True]
    assert server.stop(0) == 0
    assert not list(tmp_path.iterdir())


def test_a_relative_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        registration_server(str(tmp_path), "csi.sock")
