"""Tests of the chart, by Helm."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to go on where there is no Helm."""
    if not os.access(os.environ.get("HELM", ""), os.X_OK) and any(
        item.nodeid.startswith("tests/chart/") for item in items
    ):
        raise pytest.UsageError("tests/chart needs HELM, the path of Helm, in the environment: make chart")
