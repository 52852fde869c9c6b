"""What all tests share: the `--bless` option, the golden files it rewrites, and steps verified between passes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
_SOURCES = [str(ROOT), *(str(ROOT.parent / name) for name in ("src", "compiler", "runtime"))]
sys.path[:0] = [source for source in _SOURCES if source not in sys.path]

# For the compiler, which reads it when it is imported, and for the processes that tests start.
os.environ["STEPJIT_VERIFY"] = "1"
os.environ["STEPJIT_CACHE"] = "off"
os.environ["PYTHONPATH"] = os.pathsep.join([*_SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])

from golden import Golden  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the golden files with what comes out now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--bless"))
