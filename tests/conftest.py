"""Rules for all tests: none is skipped, and what needs a kernel of its own never runs on this one by accident."""

import os
from collections.abc import Generator

import pytest

_KERNEL = (
    "tests/kernel/",
    "tests/sanity/",
    "tests/faults/api/",
    "tests/faults/catalog/",
    "tests/faults/disks/",
    "tests/faults/order/",
    "tests/faults/process/",
    "tests/faults/hostile/",
    "tests/faults/space/",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse to run what makes devices anywhere but where the guest harness put it."""
    if "THINPOOL_TEST_KERNEL" in os.environ:
        return
    for item in items:
        if item.path.is_relative_to(config.rootpath) and item.nodeid.startswith(_KERNEL):
            message = f"{item.nodeid} needs a kernel of its own: make kernel T={item.nodeid.partition('::')[0]}"
            raise pytest.UsageError(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip and an expected failure into a failure: what cannot be tested is not shown to work."""
    report = yield
    if report.skipped or hasattr(report, "wasxfail"):
        _fail(report, "skipped or expected to fail, which no test here may be")
        vars(report).pop("wasxfail", None)  # else pytest does not count it
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a file that skips itself while it is read."""
    report = yield
    if report.skipped:
        _fail(report, "skipped as a whole, which no file here may be")
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport, why: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {why}: {reason or getattr(report, 'wasxfail', '')}"
