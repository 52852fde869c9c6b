"""prune, of what loops stack up for their gradients: rows, and the shapes that they have.

Where all trips have rows of one shape, which the loop's inputs tell, the shapes are not stacked up but known: what is
made of rows and their shapes is then a `GatherV2` or a `Reshape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepjit_compiler import dims
from stepjit_compiler.ir import Ref, Type
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes

if TYPE_CHECKING:
    from stepjit_compiler.passes.prune import Translation


def known_extents(
    inner: StepBuilder, body: Any, rows: Mapping[int, Ref], types: Sequence[Type]
) -> dict[int, tuple[Any, ...]]:
    """By output of a loop's body: the shape that it gives, where that follows from the types of the loop's inputs."""
    told = {name for type_ in types for extent in type_.dims for name in dims.symbols(extent)}
    found = {}
    for k, ref in rows.items():
        known = inner.known(ref) if body.outputs[k].op.type == "_RowExtents" else None
        if known is not None and all(dims.symbols(extent) <= told for extent in known.ravel()):
            found[k] = tuple(known.ravel())
    return found


def translate_rows(translation: Translation, op: Any) -> None:
    """Add the nodes of an op that has to do with rows and their shapes."""
    builder = translation.builder
    inputs = [translation._value(tensor) for tensor in op.inputs]
    types = [builder.type(ref) for ref in inputs]
    if op.type == "_RowExtents":
        found = builder.op("Shape", inputs[0], out_type=dtypes.int32)
    elif op.type == "_ExtentsOfRow":
        extents, index = inputs
        zero = builder.const(0, dtypes.int32)
        found = extents if len(types[0].dims) == 1 else builder.op("GatherV2", extents, index, zero)
    elif len(types[-1].dims) > 1:
        found = builder.op(op.type, *inputs)
    elif op.type == "_RowsTogether":
        first, rest = builder.const([-1], dtypes.int32), builder.dims(types[0].dims[2:])
        shape = builder.op("ConcatV2", first, rest, builder.const(0, dtypes.int32), N=2)
        found = builder.op("Reshape", inputs[0], shape)
    else:
        found = builder.op("Reshape", inputs[0], builder.op("Shape", inputs[1], out_type=dtypes.int32))
    translation._set(op, [found])
