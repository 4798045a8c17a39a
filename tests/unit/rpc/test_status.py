"""The table from errors to status codes."""

import inspect

import grpc
import pytest

from csi import errors
from csi.rpc.capability import UnsupportedError
from csi.rpc.status import CODES, code_of

DOMAIN = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DriverError)]


@pytest.mark.parametrize("kind", [kind for kind in DOMAIN if kind is not errors.DriverError])
def test_every_domain_error_has_a_code_of_its_own(kind: type[errors.DriverError]) -> None:
    assert kind in CODES
    assert code_of(kind("do", "something", "why")) is CODES[kind]


def test_a_finer_error_has_the_code_of_its_kind() -> None:
    assert code_of(UnsupportedError("do", "something", "why")) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("error", [ValueError("x"), OSError(5, "x"), errors.DriverError("do", "it", "why")])
def test_anything_else_is_internal(error: Exception) -> None:
    assert code_of(error) is grpc.StatusCode.INTERNAL
