"""Golden files of Step text: input, then the expected output behind `;` under the line `; expect:`.

`pytest --bless` rewrites what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

FILETESTS = Path(__file__).parent / "filetests"
MARK = "; expect:\n"


def golden_files(folder: str) -> list[Path]:
    """The step files of a pass."""
    return sorted((FILETESTS / folder).glob("*.step"))


def golden_input(path: Path) -> str:
    """The part of a golden file that is the pass's input."""
    return path.read_text().partition(MARK)[0]


class Golden:
    """Compares text with what a golden file expects, or rewrites the file under `--bless`."""

    def __init__(self, bless: bool) -> None:
        self.bless = bless

    def check(self, path: Path, transform: Callable[[str], str]) -> None:
        """Fail when `transform` makes other text of the file's input than the file expects."""
        given, mark, expected = path.read_text().partition(MARK)
        found = transform(given)
        if self.bless:
            expected = re.sub("^", "; ", found.rstrip("\n"), flags=re.MULTILINE)
            path.write_text(given.rstrip("\n") + "\n\n" + MARK + expected + "\n")
        elif not mark:
            pytest.fail(f"{path.name} expects nothing yet; run pytest --bless")
        else:
            expected = re.sub("^; ?", "", expected, flags=re.MULTILINE)
            assert found == expected, f"{path.name}: run pytest --bless if this is meant"
