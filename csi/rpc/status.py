"""The one table from the driver's errors to gRPC status codes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc

from csi import errors

CODES: Final[Mapping[type[BaseException], grpc.StatusCode]] = MappingProxyType(
    {
        errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
        errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
        errors.ExistsError: grpc.StatusCode.ALREADY_EXISTS,
        errors.SizeError: grpc.StatusCode.OUT_OF_RANGE,
        errors.BusyError: grpc.StatusCode.ABORTED,
        errors.PageTokenError: grpc.StatusCode.ABORTED,
        errors.StateError: grpc.StatusCode.FAILED_PRECONDITION,
        errors.NoSpaceError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        # The only code on which csi-provisioner lets the scheduler choose another node.
        errors.PlacementError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
        errors.DataLossError: grpc.StatusCode.DATA_LOSS,
        errors.KernelError: grpc.StatusCode.INTERNAL,
        errors.CommandError: grpc.StatusCode.INTERNAL,
        errors.DevicesRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
        errors.ForeignPoolError: grpc.StatusCode.FAILED_PRECONDITION,
        errors.PoolBusyError: grpc.StatusCode.UNAVAILABLE,
        errors.KernelUnfitError: grpc.StatusCode.UNAVAILABLE,
        errors.DiskHangsError: grpc.StatusCode.UNAVAILABLE,
        errors.DisksMissingError: grpc.StatusCode.UNAVAILABLE,
        errors.PoolGoneError: grpc.StatusCode.UNAVAILABLE,
        errors.NeedsRepairError: grpc.StatusCode.UNAVAILABLE,
        errors.NoDevicesError: grpc.StatusCode.FAILED_PRECONDITION,
        # What the generated base classes raise for a call that a service leaves out.
        NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
    }
)


class ForwardedError(errors.DriverError):
    """What a node has answered to the controller, to be passed on as it is."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__("", "", details)
        self.code = code

    def __str__(self) -> str:
        """Give the node's own words."""
        return self.why


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status code of ``error``: that of the nearest class in the table, INTERNAL for one that is in none."""
    if isinstance(error, ForwardedError):
        return error.code
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)
