"""What fusion and memory planning decide about a step: its kernels in order, and where every value lives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent, Shape
from stepjit_compiler.ir import Ref, Step
from stepjit_compiler.lowering import Indexed
from stepjit_runtime.cached_property import cached_property


@dataclass(frozen=True)
class Kernel:
    """A fusion group: one loop nest, one library call, or one op run by Python."""

    kind: str
    """`loop`, `product` (a matrix product or a convolution, with its epilogue), `filter` (a gradient for filters),
    `blas`, `assemble`, `split`, `scatter`, `random` (numbers), `matrices` (an algorithm on small ones), `distinct` (a
    hash table), `hits` (where bools hold), `born` (a result whose first extent an input tells), `check` (of its nodes'
    indices, which nothing is computed from yet), `assume` (a region's checks of extents), `host`, or `if` and `while`,
    whose code is that of the kernels in their regions."""
    nodes: tuple[int, ...]
    """Nodes computed, in order; a node may be computed by several kernels where that is cheaper than to store it."""
    inputs: tuple[Ref, ...]
    """Values read from buffers."""
    outputs: tuple[Ref, ...]
    """Values stored to buffers."""
    name: str = ""
    space: Shape = ()
    """The extents that a loop kernel's loops run over."""
    axes: tuple[int, ...] | None = None
    """The axes of the space that the kernel's reductions run over."""
    maps: tuple[tuple[int, tuple[int | None, ...]], ...] = ()
    """(node, by axis of its value: the axis of the space, or None for extent 1) for the nodes of a loop kernel."""


class Buffer(NamedTuple):
    """Where a value lives: `kind` and number.

    feed    the data of that feed
    slot    the buffer of that session slot (a variable)
    const   constant data of that number
    arena   that area of the arena
    output  the result array of that number
    host    the array that the host result of that number is
    grown   rows that a loop stacks up, in memory that grows with them
    """

    kind: str
    number: int


class Area(NamedTuple):
    """A piece of the arena. `offset` counts bytes when all areas before are static, else areas follow one another."""

    bytes: Extent
    offset: Extent


@dataclass(frozen=True)
class Plan:
    """A step ready to be lowered."""

    step: Step
    kernels: tuple[Kernel, ...]
    buffers: Mapping[Ref, Buffer]
    """Where each stored value lives; values that are the same elements under another shape share a buffer."""
    areas: tuple[Area, ...]
    arena_bytes: Extent
    """The arena's size over feed symbols; areas whose size is only known in mid-step are not in it (`late`)."""
    late: tuple[Extent, ...]
    """Byte sizes, over symbols born in mid-step, of areas numbered from len(areas) on: allocated as they come up."""
    outputs: tuple[Ref, ...]
    """The fetched values in order; number k is returned as result k, an array of its own."""
    constants: tuple[Ref, ...]
    """Const nodes whose data stands beside the code."""
    copies: tuple[tuple[Ref, Buffer], ...]
    """(value, where to) copied after the last kernel: values wanted in a second place."""
    host_results: tuple[Ref, ...]
    """By number of host result: its value."""
    regions: Mapping[int, tuple[Plan, ...]] = field(default_factory=dict)
    """By node that is a branch or a loop: the plans of its regions, (then, else) or (cond, body). A region's feeds are
    the node's inputs, its outputs what the node gives. In a loop's body, output k may stand in place of feed k."""
    first_constant: int = 0
    """The number that this plan's first constant has in the program."""

    @cached_property
    def most_born(self) -> Mapping[str, Extent]:
        """By extent that native code brings up in mid-step, here or in a region: what it is at most."""
        return most_born(self.walk_steps())

    def plans(self) -> Iterator[Plan]:
        """This plan and those of all regions."""
        yield self
        for regions in self.regions.values():
            for region in regions:
                yield from region.plans()

    def nested(self, depth: int = 0) -> Iterator[tuple[int, Plan, Kernel]]:
        """All kernels by number, with the number of branches and loops around them: those ahead of what is in them."""
        for kernel in self.kernels:
            yield depth, self, kernel
            for region in self.regions.get(kernel.nodes[0], ()) if kernel.kind in ("if", "while") else ():
                yield from region.nested(depth + 1)

    def stacks(self) -> Iterator[tuple[Plan, int, int]]:
        """The results of loops that are rows stacked up, those of regions included, as plans, nodes and outputs."""
        for _, plan, kernel in self.nested():
            if kernel.kind == "while":
                node = plan.step.nodes[kernel.nodes[0]]
                for k in range(len(node.inputs), len(node.types)):
                    yield plan, kernel.nodes[0], k

    def walk(self) -> Iterator[tuple[Plan, Kernel]]:
        """All kernels in the order in which their code is written; regions' kernels in place of branches and loops."""
        for kernel in self.kernels:
            if kernel.kind in ("if", "while"):
                for region in self.regions[kernel.nodes[0]]:
                    yield from region.walk()
            else:
                yield self, kernel

    def walk_steps(self) -> Iterator[tuple[Step, Kernel]]:
        """As `walk`, with steps in place of plans."""
        for plan, kernel in self.walk():
            yield plan.step, kernel


def births(step: Step, kernel: Kernel) -> list[tuple[str, Ref, Extent]]:
    """(symbol, the value that is its number, an extent that it is at most) for a `born` kernel; none for others."""
    if kernel.kind != "born":
        return []
    node = step.nodes[kernel.nodes[0]]
    op = opdef.lookup(node.op)
    assert op is not None and isinstance(op.lower, Indexed) and op.lower.born is not None
    return [(str(node.types[0].dims[0]), node.inputs[op.lower.born], step.type(node.inputs[0]).dims[0])]


def most_born(kernels: Iterable[tuple[Step, Kernel]]) -> dict[str, Extent]:
    """By extent that native code brings up in mid-step: what it is at most."""
    most: dict[str, Extent] = {}
    for step, kernel in kernels:
        for name, _, bound in births(step, kernel):
            most[name] = dims.substitute(bound, most)
    return most
