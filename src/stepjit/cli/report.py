"""What a step was compiled to, as tables for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stepjit.explain import Explanation, ProgramReport, op_list

PIPE_WIDTH = 110


class ReportConsole(Console):
    """A console of fixed width where it prints to a pipe; a pipe that was closed is the caller's to handle."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = PIPE_WIDTH

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def show_step(console: Console, title: str, explanation: Explanation) -> None:
    """The way from the graph to kernels for each program of a step, and the kernels of the first."""
    console.print(f"[bold]{escape(title)}[/bold]")
    for program in explanation.programs:
        console.print(f"  feeds {escape(', '.join(program.feeds))}", soft_wrap=True)
        console.print(f"  {_way(explanation, program)}", soft_wrap=True)
        console.print(f"  {_size(program)}", soft_wrap=True)
    for program in explanation.programs[:1]:
        console.print(_kernels(program))
    console.print()


def _way(explanation: Explanation, program: ProgramReport) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in program.kinds.items())
    return (
        f"{explanation.graph_ops} ops in the graph -> {program.pruned_ops} needed -> {program.nodes} primitives "
        f"-> {len(program.kernels)} kernels ({kinds})"
    )


def _size(program: ProgramReport) -> str:
    host = len(program.host_ops)
    arena = int(program.arena) if program.arena.isdigit() else program.arena_bytes
    where = "all native" if not host else f"{host} in Python: {', '.join(program.host_ops)}"
    return escape(
        f"{where}; {arena / 1024:.1f} KiB of temporaries; {program.origin}, "
        f"key {program.key[:12]}"
    )


def _kernels(program: ProgramReport) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("kernel", no_wrap=True)
    table.add_column("over", no_wrap=True)
    table.add_column("ops in it", overflow="fold")
    for number, kernel in enumerate(program.kernels):
        kind, space = "  " * kernel.depth + kernel.kind, f"[{','.join(kernel.space)}]"
        table.add_row(str(number), kind, escape(space), escape(op_list(kernel)))
    return table
