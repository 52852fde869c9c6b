"""What was compiled for a step, as a record and as text: `print(session.make_callable(...).explain())`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from stepjit_compiler import dims
from stepjit_runtime.manifest import KernelText, Manifest


@dataclass(frozen=True)
class ProgramReport:
    """One compiled variant of a step."""

    manifest: Manifest
    graph_ops: Sequence[Any]
    """By origin in the manifest: the graph's op, or None."""
    pruned_ops: int
    """Ops of the graph that the fetches need under the feeds."""
    seconds: float
    """What compiling took, or finding the program in a cache."""
    source: str
    """Where it came from: `compiler`, `memory` (of this process) or `disk`."""
    key: str
    """The digest under which equal steps share the program."""
    arena_bytes: int = 0
    """Bytes of temporary memory kept for the next calls; 0 before the first."""

    @property
    def origin(self) -> str:
        """How the program came to be, in words: `compiled in 41 ms`."""
        how = {"memory": "found in memory in", "disk": "read from the cache in"}.get(self.source, "compiled in")
        return f"{how} {self.seconds * 1e3:.{0 if self.seconds > 0.01 else 1}f} ms"

    @property
    def nodes(self) -> int:
        """Ops left after simplifying."""
        return self.manifest.counts["nodes"]

    @property
    def kernels(self) -> tuple[KernelText, ...]:
        """All kernels in the order in which they run."""
        return self.manifest.kernels

    @property
    def kinds(self) -> dict[str, int]:
        """How many kernels there are of each kind."""
        return dict(sorted(Counter(kernel.kind for kernel in self.kernels).items()))

    @property
    def host_ops(self) -> tuple[str, ...]:
        """Names of the graph's ops that Python runs in mid-step."""
        return tuple(self._name(host.origin) or host.op for host in self.manifest.hosts)

    @property
    def arena(self) -> str:
        """Bytes of temporary memory that a call needs, as a number or an expression of the feeds' extents."""
        return self.manifest.arena

    @property
    def feeds(self) -> tuple[str, ...]:
        """The feeds' types: `f32[s0_0,64]`, where `s<feed>_<axis>` is an extent that may be any."""
        return tuple(f"{feed.dtype}[{','.join(feed.dims)}]" for feed in self.manifest.feeds)

    @property
    def guards(self) -> tuple[str, ...]:
        """What the code takes for granted of extents, and checks at each call: `s0_1 = s1_0`."""
        return guards_of(self.manifest)

    def graph_names(self, kernel: KernelText) -> tuple[str, ...]:
        """Names of the graph's ops that a kernel computes, each once."""
        return tuple(dict.fromkeys(name for origin in kernel.origins if (name := self._name(origin))))

    def _name(self, origin: int) -> str:
        op = self.graph_ops[origin] if 0 <= origin < len(self.graph_ops) else None
        return "" if op is None else str(op.name)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items()) or "none"
        yield f"feeds ({', '.join(self.feeds)})"
        if self.guards:
            yield f"guards {', '.join(self.guards)}"
        yield f"{self.pruned_ops} ops needed -> {self.nodes} primitives -> {len(self.kernels)} kernels ({kinds})"
        yield f"arena {self.arena} bytes, {self.origin}, key {self.key[:12]}"
        for number, kernel in enumerate(self.kernels):
            extents = ",".join(kernel.space)
            inside = "  " * kernel.depth
            yield f"  k{number:<3} {inside}{kernel.kind:<8} [{extents}]  {op_list(kernel)}  ({work_of(kernel)})"


@dataclass(frozen=True)
class Explanation:
    """What was compiled for a step: one program for each set of feed types that came up."""

    graph_ops: int
    """Ops in the graph now."""
    programs: tuple[ProgramReport, ...]

    def __str__(self) -> str:
        head = f"{self.graph_ops} ops in the graph"
        if not self.programs:
            return f"{head}; nothing compiled yet: the first call tells the feeds' shapes"
        return "\n".join([head, *map(str, self.programs)])


def guards_of(manifest: Manifest) -> tuple[str, ...]:
    """The checks of extents that run before the kernels."""
    signs = {"eq": "=", "ge": ">=", "divides": "is divided by"}
    return tuple(dict.fromkeys(f"{each.a} {signs.get(each.holds, each.holds)} {each.b}" for each in manifest.checks))


def op_list(kernel: KernelText) -> str:
    """The kernel's op types in order, repeated ones counted: `MatMul AddV2 Relu`, `Mul x3 Sub`."""
    runs = [(op, len(list(group))) for op, group in groupby(kernel.ops)]
    return " ".join(f"{op} x{count}" if count > 1 else op for op, count in runs)


def work_of(kernel: KernelText) -> str:
    """What a kernel does, as numbers or expressions of the feeds' extents: `1024 flop, 512 bytes read, 64 written`."""
    total: dims.Extent = 0
    for each in kernel.flops:
        total = total + dims.parse(each)
    return f"{total} flop, {kernel.reads} bytes read, {kernel.writes} written"
