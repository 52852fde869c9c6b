"""`stepjit.profile`: where the time of a compiled step goes, kernel by kernel.

    step = session.make_callable(loss, [x, y])
    stepjit.profile(step, x_value, y_value)

Floating-point operations and bytes are counted from the ops' definitions (`stepjit_compiler/work.py`), so a kernel's
GFLOP/s tell how much useful work it does. `peak` compares its time with the least that this machine could take for as
many operations on as many bytes, both of which are measured at the first profile of a process.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any, TextIO

from stepjit.session.options import Limit
from stepjit.session.step_stats import member_ops
from stepjit.session.trace import TracedCall, Tracer
from stepjit_runtime import trace
from stepjit_runtime.manifest import KernelText

if TYPE_CHECKING:
    from stepjit_compiler.peak import Peak

REPEATS = 30
_MEASURABLE = 2e-9
"""Of shorter times no rates are told: they are as long as the clock's ticks."""
_PLACES = ("kernel", "op")


@dataclass(frozen=True)
class KernelProfile:
    """One kernel of a step; times are means of the half of the runs about the median, the rest is as in the last."""

    number: int
    name: str
    """Its op types: `MatMul BiasAdd Relu`."""
    kind: str
    ops: tuple[str, ...]
    """Names of the graph's ops that it computes."""
    depth: int
    """How many branches and loops it is in."""
    seconds: float
    """Time per step; of branches and loops, without the kernels in them."""
    share: float
    """Part of the step's time, of 1."""
    calls: int
    """How often it runs in a step."""
    bytes_read: int | None
    """Per step; None where extents change within the step."""
    bytes_written: int | None
    flops: int | None
    """Floating-point operations per step."""
    least_seconds: float | None
    """The least time that this machine could take."""

    @property
    def is_host(self) -> bool:
        """Whether Python runs it."""
        return self.kind == "host"

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes read and written in a second."""
        if self.bytes_read is None or self.bytes_written is None or self.seconds < _MEASURABLE:
            return None
        return (self.bytes_read + self.bytes_written) / self.seconds

    @property
    def flops_per_second(self) -> float | None:
        """Floating-point operations in a second."""
        return self.flops / self.seconds if self.flops is not None and self.seconds >= _MEASURABLE else None

    @property
    def peak(self) -> float | None:
        """How near the kernel comes to what the machine can do: the least time over its own; 1 is all there is."""
        if self.least_seconds is None or self.seconds < _MEASURABLE:
            return None
        return self.least_seconds / self.seconds


@dataclass(frozen=True)
class OpProfile:
    """All ops of one type in a step; their time is their part, by estimated work, of the kernels that compute them."""

    type: str
    count: int
    """Ops of the graph."""
    seconds: float
    share: float
    flops: int | None
    is_host: bool
    """Whether Python runs any of them."""


@dataclass(frozen=True)
class Profile:
    """Where a step's time went; printing it gives a table."""

    kernels: tuple[KernelProfile, ...]
    """In the order in which they run."""
    ops: tuple[OpProfile, ...]
    """By op type, the most time first."""
    seconds: float
    """Time of one step in native code: from the call to its return, less what tracing adds."""
    overhead_seconds: float
    """What no kernel accounts for: checking feeds, making results."""
    repeats: int
    arena_bytes: int | None
    """Memory for temporary values."""
    by: str = "kernel"

    def __str__(self) -> str:
        head, rows = _table(self)
        widths = [max(map(len, column)) for column in zip(head, *rows)]
        lines = [
            "  ".join(
                cell.ljust(width) if k in (0, len(head) - 1) else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, *rows)
        ]
        return "\n".join([*lines, _summary(self)])


def profile(
    callable: Callable[..., Any],
    /,
    *args: Any,
    repeats: int = REPEATS,
    by: str = "kernel",
    file: TextIO | None = None,
    show: bool = True,
) -> Profile:
    """Run a step `repeats` times, tell where its time goes, print that as a table and return it.

    callable: what `Session.make_callable` gave; args: the values for its feeds. The step is run in earnest: variables
    change, and queues give and take. by: `kernel`, or `op` for a line per op type. file: where to print, standard
    output unless given; show=False prints nothing. Raises TypeError for other callables, ValueError for other values,
    and whatever the step raises.
    """
    recipe = getattr(callable, "recipe", None)
    if recipe is None:
        raise TypeError(f"profile takes what make_callable returned, not {type(callable).__name__!r}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    if by not in _PLACES:
        raise ValueError(f"by must be one of {', '.join(_PLACES)}, not {by!r}")
    tracer = Tracer()
    run = recipe.session._callable(recipe.structure, list(recipe.keys or ()), recipe.keys is None, tracer)
    recipe.session._check_open()
    for _ in range(repeats):
        with Limit(recipe.session._config.time_limit):
            run(*args)
    found = _evaluated(tracer.calls, repeats, by)
    if show:
        _print(found, file or sys.stdout)
    return found


# --- From runs to numbers ---


def _evaluated(calls: Sequence[TracedCall], repeats: int, by: str) -> Profile:
    if not calls:
        return Profile((), (), 0.0, 0.0, repeats, 0, by)
    last = calls[-1]
    # Of steps whose shapes came up while they ran, the program that all further runs have.
    calls = [call for call in calls if call.variant is last.variant]
    # The middle half of the runs: their mean is as steady as a median, and finer than the clock's ticks.
    cut = len(calls) // 4
    calls = sorted(calls, key=_step_seconds)[cut : len(calls) - cut]
    times = [_kernel_seconds(call) for call in calls]
    seconds = fmean(map(_step_seconds, calls))
    overhead = fmean(max(0.0, _step_seconds(call) - sum(each)) for call, each in zip(calls, times))
    of_kernels = [fmean(column) for column in zip(*times)]
    whole = sum(of_kernels) + overhead or 1.0
    kernels = tuple(
        _kernel_profile(last, number, kernel, of_kernels[number], whole)
        for number, kernel in enumerate(last.manifest.kernels)
    )
    return Profile(kernels, _ops(last, kernels, whole), seconds, overhead, repeats, last.arena_bytes, by)


def _kernel_seconds(call: TracedCall) -> list[float]:
    """By kernel: its time in a run, less the clock's own; of branches and loops, without the kernels in them."""
    cost = trace.cost()
    found = [ticks * call.clock.ns - runs * cost.inside for runs, ticks in call.totals]
    around: list[int] = []
    for number, kernel in enumerate(call.manifest.kernels):
        del around[kernel.depth :]
        runs, ticks = call.totals[number]
        if around:
            found[around[-1]] -= ticks * call.clock.ns + runs * cost.outside
        around.append(number)
    return [max(0.0, each) * 1e-9 for each in found[: len(call.manifest.kernels)]]


def _step_seconds(call: TracedCall) -> float:
    cost = trace.cost()
    runs = sum(runs for runs, _ in call.totals)
    passed = (call.end - call.begin) * call.clock.ns
    return max(0.0, passed - runs * (cost.inside + cost.outside)) * 1e-9


def _kernel_profile(
    call: TracedCall, number: int, kernel: KernelText, seconds: float, whole: float
) -> KernelProfile:
    runs = call.totals[number][0]
    flops = _times(_sum(call, kernel.flops), runs)
    read, written = _times(call.number(kernel.reads), runs), _times(call.number(kernel.writes), runs)
    least = None
    if kernel.kind not in ("host", "if", "while") and None not in (flops, read, written) and runs:
        wide = any(store.dtype in ("float64", "complex128") for store in kernel.stores)
        size = (read + written) // runs  # type: ignore[operator]
        least = runs * _peak().seconds(flops // runs, size, 8 if wide else 4)  # type: ignore[operator]
    names = dict.fromkeys(op.name for op in map(_op_of(call), kernel.origins) if op is not None)
    return KernelProfile(
        number, _types(kernel), kernel.kind, tuple(names), kernel.depth, seconds, seconds / whole, runs, read, written,
        flops, least,
    )  # fmt: skip


def _ops(call: TracedCall, kernels: Sequence[KernelProfile], whole: float) -> tuple[OpProfile, ...]:
    seconds: dict[str, float] = defaultdict(float)
    flops: dict[str, int | None] = defaultdict(int)
    found: dict[str, set[str]] = defaultdict(set)
    hosts: Counter[str] = Counter()
    op_of = _op_of(call)
    for kernel, text, members in zip(kernels, call.manifest.kernels, member_ops(call), strict=True):
        for op, share, _ in members:
            seconds[op.type] += share * kernel.seconds
            hosts[op.type] += kernel.is_host
            found[op.type].add(op.name)
        for origin, each in zip(text.origins, text.flops):
            op = op_of(origin)
            if op is not None:
                counted, known = _times(call.number(each), kernel.calls), flops[op.type]
                flops[op.type] = None if counted is None or known is None else known + counted
    profiles = [
        OpProfile(kind, len(found[kind]), time, time / whole, flops[kind], hosts[kind] > 0)
        for kind, time in seconds.items()
    ]
    return tuple(sorted(profiles, key=lambda each: -each.seconds))


def _op_of(call: TracedCall) -> Callable[[int], Any]:
    ops = call.variant.ops
    return lambda origin: ops[origin] if 0 <= origin < len(ops) else None


def _sum(call: TracedCall, extents: Sequence[str]) -> int | None:
    numbers = [call.number(extent) for extent in extents]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _times(number: int | None, runs: int) -> int | None:
    return None if number is None else number * runs


def _peak() -> Peak:
    from stepjit_compiler.peak import peak

    return peak()


def _types(kernel: KernelText) -> str:
    runs = [(op, len(list(group))) for op, group in groupby(kernel.ops)]
    return " ".join(f"{op} x{count}" if count > 1 else op for op, count in runs)


# --- Tables ---


def _print(found: Profile, file: TextIO) -> None:
    """A table in colour for a terminal, plain text for anything else."""
    if not file.isatty():
        print(found, file=file)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    head, rows = _table(found)
    table = Table(box=SIMPLE_HEAD)
    for k, name in enumerate(head):
        last = k == len(head) - 1
        table.add_column(name, justify="left" if k == 0 or last else "right", overflow="ellipsis", no_wrap=not last)
    for row in rows:
        table.add_row(*row, style="yellow" if "host" in row else None)
    console = Console(file=file, highlight=False, markup=False)
    console.print(table)
    console.print(_summary(found))


def _table(found: Profile) -> tuple[list[str], list[list[str]]]:
    if found.by == "op":
        head = ["op type", "ops", "time", "share", "FLOP", "where"]
        rows = [
            [op.type, str(op.count), _time(op.seconds), _percent(op.share), _amount(op.flops), _where(op.is_host)]
            for op in found.ops
        ]
        blanks = [""] * 2
    else:
        head = ["kernel", "time", "share", "calls", "read", "written", "FLOP", "GB/s", "GFLOP/s", "peak", "where"]
        head.append("ops")
        rows = list(map(_kernel_row, found.kernels))
        blanks = [""] * 9
    part = found.overhead_seconds / (found.seconds or 1.0)
    middle = [_time(found.overhead_seconds), _percent(part)]
    overhead = ["call overhead", "", *middle, *blanks] if found.by == "op" else ["call overhead", *middle, *blanks]
    return head, [*rows, overhead]


def _kernel_row(kernel: KernelProfile) -> list[str]:
    return [
        f"{'  ' * kernel.depth}k{kernel.number} {kernel.name}"[:48],
        _time(kernel.seconds),
        _percent(kernel.share),
        str(kernel.calls),
        _amount(kernel.bytes_read, "B"),
        _amount(kernel.bytes_written, "B"),
        _amount(kernel.flops),
        _billions(kernel.bytes_per_second),
        _billions(kernel.flops_per_second),
        "" if kernel.peak is None else _percent(kernel.peak),
        _where(kernel.is_host),
        _names(kernel.ops),
    ]


def _summary(found: Profile) -> str:
    memory = "" if not found.arena_bytes else f", {_amount(found.arena_bytes, 'B')} of temporary memory"
    kernels = f"{len(found.kernels)} kernels" if len(found.kernels) != 1 else "1 kernel"
    return f"{_time(found.seconds)} a step, mean of {found.repeats} runs: {kernels}{memory}"


def _names(names: Sequence[str]) -> str:
    text = " ".join(names[:4])
    return text if len(names) <= 4 else f"{text} and {len(names) - 4} more"


def _where(is_host: bool) -> str:
    return "host" if is_host else ""


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _billions(number: float | None) -> str:
    return "" if not number else f"{number / 1e9:.1f}"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}" if seconds * factor < 1000 else f"{seconds * factor:.0f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _amount(number: int | None, unit: str = "") -> str:
    """`1.23 M`: three digits and a prefix."""
    if number is None:
        return "?"
    scaled, prefix = float(number), ""
    for prefix in ("", "k", "M", "G", "T"):
        if scaled < 999.5 or prefix == "T":
            break
        scaled /= 1000
    return f"{scaled:.0f} {prefix}{unit}".rstrip() if scaled >= 99.5 or not prefix else f"{scaled:.2g} {prefix}{unit}"


