"""A pytest plugin: one line per case and event in the file named by CONFORMANCE_LOG, so that it outlives a crash.

Cases that the file knows already are not run again.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

_LOG = Path(os.environ["CONFORMANCE_LOG"])


def _note(event: str, name: str) -> None:
    with _LOG.open("a", encoding="utf-8") as file:
        file.write(f"{event}\t{name}\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    begun = {line.partition("\t")[2] for line in _LOG.read_text(encoding="utf-8").splitlines()}
    items[:] = [item for item in items if item.nodeid not in begun]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _note("uncollected", report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _note("start", item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or not report.passed:
        _note("passed" if report.passed else "failed", report.nodeid)
