"""Ops that Python runs in mid-step: a function each, as native code calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit.session.any_rank import any_rank_loop
from stepjit.session.attempts import fits, recorded
from stepjit.session.failures import op_error
from stepjit.session.regions import driven
from stepjit.session.streams import stream_of, streams_of
from stepjit_compiler import opdef
from stepjit_compiler.opdef import Call
from stepjit_compiler.ops.step import ASSIGNS
from stepjit_compiler.regions import CONTROL
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import INTERNAL, RESOURCE_EXHAUSTED, OpFailure
from stepjit_runtime.manifest import HostOp
from stepjit_runtime.resources import Resources, Variable

Host = Callable[..., "tuple[np.ndarray, ...]"]


def host_function(
    host: HostOp, ops: Sequence[Any], resources: Resources, variables: Sequence[Variable | None], slots: Sequence[Any],
    guessed: bool = False, owners: Sequence[Any] | None = None, session: Any = None,
) -> Host:
    """The function for one host op of a program; `ops` are the graph ops by origin, `slots` the manifest's.

    guessed: some of the program's shapes are guesses (see `attempts`). owners: by slot, the op that names it.
    session: whose resources these are; only loops over variables of any rank ask for it.
    """
    op = ops[host.origin] if host.origin >= 0 else None
    owners = owners if owners is not None else [ops[slot.origin] if slot.origin >= 0 else None for slot in slots]
    if host.op in CONTROL:
        compute = driven(
            host, ops, resources,
            lambda inner, own: host_function(inner, own, resources, variables, slots, guessed, owners, session),
            streams_of(slots, owners, resources),
        )  # fmt: skip
    elif host.op == "_WhileAnyRank":
        compute = any_rank_loop(op, host.attrs["live"], session)
    else:
        compute = _compute(host, ops, resources, variables, owners)
    outputs, cancellation = host.outputs, resources.cancellation
    unsure = guessed and "_shapes" in host.attrs

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            cancellation.check()
            with np.errstate(all="ignore"):
                found = compute(*arrays)
            if cancellation.cancelled:
                cancellation.check()
            results = found if isinstance(found, (tuple, list)) else (found,)
            return tuple(_owned(each, out, arrays, host, unsure) for each, out in zip(results, outputs, strict=True))
        except OpFailure as failure:
            raise op_error(op, failure) from failure.__cause__
        except MemoryError as error:
            raise op_error(op, OpFailure(f"OOM when allocating tensor: {error}", RESOURCE_EXHAUSTED)) from None

    found = recorded(host, op, run) if guessed else run
    return _settled(found, resources, any(slot.writes for slot in slots)) if any(variables) else found


def _settled(function: Host, resources: Resources, writes: bool) -> Host:
    """The function, which ends when no other thread is changing the variables that the step goes on with.

    Native code goes on with the GIL; but while Python ran, a step may have begun that lets go of it.
    """

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        results = function(*arrays)
        try:
            while resources.busy(writes):
                resources.wait(writes)
        except OpFailure as failure:
            raise op_error(None, failure) from None
        return results

    return run


def _compute(
    host: HostOp, ops: Sequence[Any], resources: Resources, variables: Sequence[Variable | None], owners: Sequence[Any]
) -> Callable[..., Any]:
    if host.op in ASSIGNS:
        variable = variables[host.attrs["slot"]]
        assert variable is not None

        def assign(value: np.ndarray, missing: Any = False) -> tuple[()]:
            if not missing:
                variable.assign(value)
            return ()

        return assign
    definition = opdef.lookup(host.op)
    assert definition is not None
    attrs = {name: value for name, value in host.attrs.items() if name != "_shapes"}
    if "_slot" in attrs:
        attrs["_stream"] = stream_of(owners[attrs.pop("_slot")], resources)
    if "token" in attrs:
        attrs["token"] = ops[host.origin].attrs["token"]
    if definition.resources:
        attrs["_resources"], attrs["_name"] = resources, ops[host.origin].name
    call = Call(host.op, attrs, [as_dtype(out.dtype) for out in host.outputs])
    reference = definition.reference
    if reference is None:
        raise OpFailure(f"Op type '{host.op}' can't be run", INTERNAL)
    return lambda *arrays: reference(call, *arrays)


def _owned(value: Any, out: Any, inputs: Sequence[np.ndarray], host: HostOp, unsure: bool) -> np.ndarray:
    """The value as an array of its own, of the exact dtype object and, unless unsure, the shape that was inferred."""
    dtype = as_dtype(out.dtype)
    array = np.asarray(value, dtype.np, order="C")
    if array.dtype is not dtype.np:
        array = array.view(dtype.np)
    shared = array.base is not None or not array.flags.owndata or any(array is each for each in inputs)
    if shared or not array.flags.aligned or not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy("C")
    if not unsure and not fits(out.dims, array):
        raise OpFailure(f"'{host.op}' gave shape {array.shape} where [{','.join(out.dims)}] was inferred", INTERNAL)
    return array
