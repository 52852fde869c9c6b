"""Tables of any length: rich's for people at a terminal, plain columns for pipes and for what is long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stepjit.cli.report import ReportConsole

MOST_ROWS = 200
"""Longer tables are printed plainly: laying out a table costs a millisecond a row."""


NARROWEST = 24
"""Characters to which a column of texts may be folded at a terminal."""


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """Print rows under their heads; columns named in `right` end at one place.

    At a terminal that is too narrow the columns in `spare` are left out, the first of them first.
    """
    console = ReportConsole()
    if not console.is_terminal or len(rows) > MOST_ROWS:
        print("\n".join(plain(heads, rows, right)))
        return
    left = _fitting(heads, rows, spare, console.width)
    heads, rows = [heads[k] for k in left], [[row[k] for k in left] for row in rows]
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for head in heads:
        widest = max(len(row[heads.index(head)]) for row in rows) if rows else 0
        justify: Literal["left", "right"] = "right" if head in right else "left"
        table.add_column(head, justify=justify, overflow="fold", no_wrap=widest <= NARROWEST)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _fitting(
    heads: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], width: int
) -> list[int]:
    """The numbers of the columns that are shown."""
    widths = [min(NARROWEST, max(map(len, column))) + 2 for column in zip(heads, *rows, strict=True)]
    left = list(range(len(heads)))
    for name in spare:
        if sum(widths[k] for k in left) > width:
            left.remove(heads.index(name))
    return left


def plain(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """The table as lines of text."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    to_right = [head in right for head in heads]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if ends else cell.ljust(width)
            for cell, width, ends in zip(cells, widths, to_right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line(heads), *map(line, rows)]


def size(count: float) -> str:
    """Bytes for people: `17.3 kB`, in units of 1024."""
    for unit in ("B", "kB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB"


def span(seconds: float) -> str:
    """A time for people: `3.1 ms`, `12 min`, `4 d`."""
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    for limit, unit, divisor in ((100, "s", 1), (5400, "min", 60), (130000, "h", 3600)):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}" if unit == "s" else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def date(when: float) -> str:
    """Seconds since 1970 as a local date and time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
