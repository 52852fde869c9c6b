"""Runs a Step node by node through the ops' references: the meaning of a Step, and the oracle for what is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Dim
from stepjit_compiler.ir import Node, Ref, Slot, Step, StepFailure, Type
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, OpDef
from stepjit_compiler.ops.step import ASSIGNS
from stepjit_compiler.passes.expand import expand
from stepjit_compiler.regions import CONTROL, regions_of, stacked
from stepjit_compiler.step_builder import SOURCES
from stepjit_compiler.step_inference import plain_attrs
from stepjit_runtime.errors import FAILED_PRECONDITION, UNIMPLEMENTED, OpFailure


class WrongTypeError(Exception):
    """An op's reference gave another dtype or shape than its shape rule: one of the two is wrong."""


def interpret(
    step: Step, feeds: Sequence[np.ndarray], slots: Sequence[Any] = (), streams: Mapping[int, Any] = {}
) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
    """The fetched arrays, and the new values of the slots that are written.

    feeds: one array per feed, of the feed's dtype; its extents give the symbols their values.
    slots: what each slot holds, None for nothing.
    streams: by slot, what a random op's reference finds as its attr `_stream`.
    Raises StepFailure with the origin of the op that fails, ValueError for feeds that don't fit the step.
    """
    if any(not _runs(node) for node in step.nodes):
        step = expand(step, lambda op: op.reference is None)
    run = _Run(step, feeds, slots, streams, bind_feeds(step.feeds, feeds))
    fetched = run.all()
    return fetched, run.assigned | {slot: run.arrays[ref] for slot, ref in step.writes}


def run_op(op: OpDef, call: Call, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The op's outputs by its reference; OpFailure where the op fails."""
    if op.reference is None:
        raise OpFailure(f"'{op.name}' has no implementation", UNIMPLEMENTED)
    with np.errstate(all="ignore"):
        result = op.reference(call, *arrays)
    results = result if isinstance(result, (tuple, list)) else () if result is None else (result,)
    return tuple(np.asarray(each) for each in results)


def bind_feeds(feeds: Sequence[Type], arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """Values of the symbols from the feeds' extents; ValueError when an array does not fit its feed."""
    if len(feeds) != len(arrays):
        raise ValueError(f"{len(feeds)} feeds are wanted, {len(arrays)} given")
    values: dict[str, int] = {}
    for i, (type_, array) in enumerate(zip(feeds, arrays)):
        fits = array.dtype == type_.dtype.np and array.ndim == len(type_.dims)
        for extent, have in zip(type_.dims, array.shape):
            if isinstance(extent, Dim):
                # A symbol is never 1: shape rules have relied on that.
                fits = fits and have != 1 and values.setdefault(str(extent), have) == have
            else:
                fits = fits and extent == have
        if not fits:
            raise ValueError(f"feed {i} is {type_}, not {array.dtype}{list(array.shape)}")
    return values


def _runs(node: Node) -> bool:
    if node.op in CONTROL:
        return all(_runs(each) for _, region in regions_of(node) for each in region.nodes)
    op = opdef.lookup(node.op)
    return op is None or op.reference is not None or not isinstance(op.lower, Composite)


class _Run:
    def __init__(
        self, step: Step, feeds: Sequence[np.ndarray], slots: Sequence[Any], streams: Mapping[int, Any],
        values: dict[str, int],
    ) -> None:  # fmt: skip
        self.step, self.feeds, self.slots, self.streams = step, feeds, slots, streams
        self.values = values
        self.arrays: dict[Ref, np.ndarray] = {}
        self.assigned: dict[int, np.ndarray] = {}

    def all(self) -> list[np.ndarray]:
        """Run the step; what it fetches."""
        for check in self.step.checks:
            if check.fails(self.values):
                raise StepFailure(check.origin, OpFailure(check.message))
        for i, node in enumerate(self.step.nodes):
            try:
                self.node(i, node)
            except OpFailure as failure:
                raise StepFailure(node.origin, failure) from None
        return [self.arrays[ref] for ref in self.step.fetches]

    def node(self, i: int, node: Node) -> None:
        """Run node number i."""
        if node.op in SOURCES:
            self.arrays[Ref(i, 0)] = self.source(node)
            return
        inputs = [self.arrays[ref] for ref in node.inputs]
        if node.op in ASSIGNS:
            if len(inputs) < 2 or not inputs[1]:
                self.assigned[node.attr["slot"]] = inputs[0]
            return
        if node.op == "Const":
            self.arrays[Ref(i, 0)] = node.attr["value"].array
            return
        if node.op in CONTROL:
            given = self.branch(node, inputs) if node.op == "_If" else self.loop(node, inputs)
            for k, (array, type_) in enumerate(zip(given, node.types, strict=True)):
                self.bind(i, node, array, type_)
                self.arrays[Ref(i, k)] = array
            return
        op = opdef.lookup(node.op)
        if op is None:
            raise OpFailure(f"Op type not registered '{node.op}'")
        results = run_op(op, self.call(node), inputs)
        if len(results) != len(node.types):
            raise WrongTypeError(f"%{i} {node.op}: {len(results)} results for {len(node.types)} outputs")
        for k, (array, type_) in enumerate(zip(results, node.types)):
            self.bind(i, node, array, type_)
            self.arrays[Ref(i, k)] = array

    def branch(self, node: Node, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.region(node.attr["then" if inputs[0] else "else"], inputs[1:])

    def loop(self, node: Node, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        variables, rows = list(inputs), []
        while self.region(node.attr["cond"], variables)[0]:
            found = self.region(node.attr["body"], variables)
            variables = found[: len(variables)]
            rows.append(found[len(variables) :])
        collected = [
            stacked([row[k] for row in rows]) if rows else self.no_rows(type_)
            for k, type_ in enumerate(node.types[len(variables) :])
        ]
        return [*variables, *collected]

    def no_rows(self, type_: Type) -> np.ndarray:
        known = [dims.evaluate(e, self.values) if dims.symbols(e) <= self.values.keys() else 0 for e in type_.dims[1:]]
        return np.zeros((0, *known), type_.dtype.np)

    def region(self, region: Step, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run a step inside a node, which may write through to the host."""
        needed = {name for type_ in region.feeds for extent in type_.dims for name in dims.symbols(extent)}
        values = {name: self.values[name] for name in needed & self.values.keys()}
        for type_, array in zip(region.feeds, feeds, strict=True):
            for extent, have in zip(type_.dims, array.shape):
                if isinstance(extent, Dim) and extent is dims.symbol(str(extent)):
                    values[str(extent)] = have
        run = _Run(region, feeds, self.slots, self.streams, values)
        fetched = run.all()
        self.assigned |= run.assigned
        return fetched

    def call(self, node: Node) -> Call:
        attrs = plain_attrs(node.attrs)
        if "_slot" in attrs:
            attrs["_stream"] = self.streams.get(attrs.pop("_slot"))
        return Call(node.op, attrs, [t.dtype for t in node.types], node.types)

    def source(self, node: Node) -> np.ndarray:
        if node.op == "_Feed":
            return self.feeds[node.attr["index"]]
        if node.op == "_Dims":
            found = [dims.evaluate(extent, self.values) for extent in node.attr["dims"]]
            type_ = node.types[0]
            return np.array(found, type_.dtype.np).reshape([len(found)] if type_.dims else [])
        slot = node.attr["slot"]
        held = self.slots[slot] if slot < len(self.slots) else None
        if node.op == "_Initialized":
            return np.array(held is not None)
        if held is None and node.attr.get("unsure"):
            type_ = node.types[0]
            return np.zeros([dims.evaluate(extent, self.values) for extent in type_.dims], type_.dtype.np)
        if held is None:
            raise OpFailure(f"Attempting to use uninitialized value {self.slot_name(slot)}", FAILED_PRECONDITION)
        return np.asarray(held)

    def slot_name(self, slot: int) -> str:
        found: Slot = self.step.slots[slot]
        return self.step.names[found.origin] if 0 <= found.origin < len(self.step.names) else str(slot)

    def bind(self, i: int, node: Node, array: np.ndarray, type_: Type) -> None:
        """Give symbols born here their values; WrongTypeError when the array is not of the node's type."""
        fits = array.dtype == type_.dtype.np and array.ndim == len(type_.dims)
        for extent, have in zip(type_.dims, array.shape):
            if isinstance(extent, Dim):
                if extent.symbols - self.values.keys():
                    self.values[str(extent)] = have
                    continue
                extent = dims.evaluate(extent, self.values)
            fits = fits and extent == have
        if not fits:
            raise WrongTypeError(f"%{i} {node.op}: {array.dtype}{list(array.shape)} is no {type_}")
