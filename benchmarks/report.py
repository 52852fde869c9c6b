"""Prints a run: one row per workload, one column per peer's way, then the targets."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.runner import Column, Measured, Results
from benchmarks.targets import OURS, Verdict

_WIDTH = 230

_PARTS = (
    ("import", 1e3, "import ms"),
    ("build", 1e3, "build ms"),
    ("first", 1e3, "first result ms"),
    ("total", 1e3, "total ms"),
    ("build_us_per_op", 1, "build us/op"),
    ("sweep", 1e3, "all feeds ms"),
    ("compiles", 1, "compiles"),
)


def show(results: Results, verdicts: Sequence[Verdict]) -> None:
    """Print to stdout: in colour and boxes on a terminal, plain when piped."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(_steady(results, console.is_terminal))
    cold = [measured for measured in results.workloads if any(column.cold for column in measured.columns.values())]
    if cold:
        console.print(_cold(cold, console.is_terminal))
    for measured in results.workloads:
        for name, column in measured.columns.items():
            if column.error or column.missing:
                word = "WRONG" if column.error else "none"
                why = column.error or column.missing
                console.print(f"{measured.workload.name} {name}: {word}: {why}", markup=False)
    console.print(_targets(verdicts, console.is_terminal))
    counts = [sum(v.met is state for v in verdicts) for state in (True, False, None)]
    console.print(f"targets: {counts[0]} met, {counts[1]} missed, {counts[2]} without figures")


def _table(title: str, terminal: bool) -> Table:
    return Table(title=title, box=box.ROUNDED if terminal else box.ASCII2, title_justify="left")


def _steady(results: Results, terminal: bool) -> Table:
    names = list(dict.fromkeys(name for m in results.workloads for name, c in m.columns.items() if c.rounds))
    peers = list(dict.fromkeys(name.split(".")[0] for name in names))
    table = _table("median us per call (times stepjit's callable)", terminal)
    table.add_column("workload", no_wrap=True)
    for peer in peers:
        table.add_column(peer, justify="right", no_wrap=True)
    for measured in results.workloads:
        rows = [_ways(measured, peer, peers) for peer in peers]
        for i in range(max(map(len, rows), default=0)):
            cells = [row[i] if i < len(row) else "" for row in rows]
            table.add_row(measured.workload.name if i == 0 else "", *cells)
    return table


def _ways(measured: Measured, peer: str, peers: Sequence[str]) -> list[str]:
    found = []
    for name, column in measured.columns.items():
        if name.split(".")[0] == peer:
            way = name.split(".")[1]
            found.append(f"{'' if way == peer else way + ' '}{_cell(measured, name, column)}")
    return found


def _cell(measured: Measured, name: str, column: Column) -> str:
    if column.median is None:
        return "WRONG" if column.error else "-"
    ratio = measured.ratio(name, OURS)
    beside = "" if ratio is None or name == OURS else f" ({ratio:.2f}x)" if ratio < 10 else f" ({ratio:.0f}x)"
    return f"{_short(column.median)}{beside}"


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _cold(cold: Sequence[Measured], terminal: bool) -> Table:
    table = _table("from nothing: medians", terminal)
    table.add_column("workload")
    table.add_column("peer")
    for _, _, heading in _PARTS:
        table.add_column(heading, justify="right")
    for measured in cold:
        for name, column in measured.columns.items():
            if column.cold:
                cells = ["" if (p := column.part(part)) is None else f"{p * scale:.4g}" for part, scale, _ in _PARTS]
                table.add_row(measured.workload.name, name.split(".")[0], *cells)
    return table


def _targets(verdicts: Sequence[Verdict], terminal: bool) -> Table:
    table = _table("targets", terminal)
    for heading in ("", "target", "measured"):
        table.add_column(heading)
    for verdict in verdicts:
        mark = {True: "met", False: "MISSED", None: "-"}[verdict.met]
        style = {True: "green", False: "red", None: "dim"}[verdict.met]
        table.add_row(f"[{style}]{mark}[/]", verdict.target, verdict.measured)
    return table
