"""What all tests share: the `--bless` option and the golden files it rewrites."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
for _source in (ROOT, *(ROOT.parent / name for name in ("src", "compiler", "runtime"))):
    if str(_source) not in sys.path:
        sys.path.insert(0, str(_source))

from golden import Golden  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the golden files with what comes out now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--bless"))
