"""What a step was compiled to, as tables for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stepjit.explain import Explanation, ProgramReport, op_list


def show_step(console: Console, title: str, explanation: Explanation) -> None:
    """The step's programs as a table of sizes, and the kernels of the first."""
    console.print(f"[bold]{escape(title)}[/bold]: {explanation.graph_ops} ops in the graph", soft_wrap=True)
    for program in explanation.programs:
        console.print(f"  for feeds {escape(', '.join(program.feeds))}: {_way(program)}", soft_wrap=True)
    for program in explanation.programs[:1]:
        console.print(_kernels(program))


def _way(program: ProgramReport) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in program.kinds.items())
    host = program.kinds.get("host", 0)
    return (
        f"{program.pruned_ops} needed -> {program.nodes} simplified -> {len(program.kernels)} kernels ({kinds}), "
        f"{len(program.kernels) - host} native, {host} in Python; arena {program.arena} bytes; "
        f"{program.seconds * 1e3:.0f} ms"
    )


def _kernels(program: ProgramReport) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("kernel", no_wrap=True)
    table.add_column("over", no_wrap=True)
    table.add_column("ops in it", overflow="fold")
    for number, kernel in enumerate(program.kernels):
        table.add_row(str(number), kernel.kind, escape(f"[{','.join(kernel.space)}]"), escape(op_list(kernel)))
    return table
