"""early checks: indices are looked at before the first variable changes, so that a step that fails changes none.

Where an index is only known after a variable has changed, or Python runs an op that late, `plan_memory` lets the
variables keep their old values until the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref, Step
from stepjit_compiler.lowering import Alias, Check, Generate, Indexed, Scatter
from stepjit_compiler.ops.step import ASSIGNS
from stepjit_compiler.passes.fuse import reader_of, root_of
from stepjit_compiler.plan import Kernel
from stepjit_compiler.step_builder import StepBuilder

Known = tuple[Ref, Extent]
"""An index value and the bound that it was held against."""


def early_checks(step: Step, kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """The kernels with, where needed, one more before the first that may change a variable: it checks for the rest."""
    written = {root_of(step, ref) for _, ref in step.writes}
    first = next((k for k, kernel in enumerate(kernels) if written & set(kernel.outputs)), len(kernels))
    reader = reader_of(step)
    known = {each for kernel in kernels[: first + 1] for i in kernel.nodes for each in _held(step, reader, i)}
    late = {ref for kernel in kernels[first:] for ref in kernel.outputs}
    nodes: list[int] = []
    for kernel in kernels[first + 1 :]:
        for i in kernel.nodes:
            wanted = _held(step, reader, i)
            if not wanted <= known and not any(ref in late for ref, _ in wanted):
                nodes.append(i)
                known |= wanted
    if not nodes:
        return tuple(kernels)
    inputs = tuple(dict.fromkeys(ref for i in nodes for ref in _indices(step, reader, i)))
    return (*kernels[:first], Kernel("check", tuple(nodes), inputs, (), "check"), *kernels[first:])


def failing(step: Step, kernels: Sequence[Kernel]) -> list[int]:
    """The kernels that may end the step: ops that Python runs, branches and loops, and checks that come up first there.

    Python's writes to variables do not fail: by then all is computed.
    """
    reader = reader_of(step)
    known: set[Known] = set()
    found = []
    for k, kernel in enumerate(kernels):
        wanted = {each for i in kernel.nodes for each in _held(step, reader, i)}
        runs = kernel.kind == "host" and step.nodes[kernel.nodes[0]].op not in ASSIGNS
        if runs or kernel.kind in ("if", "while", "matrices") or not wanted <= known or _draws_within(step, kernel):
            found.append(k)
        known |= wanted
    return found


def _draws_within(step: Step, kernel: Kernel) -> bool:
    """Whether the kernel draws random numbers between bounds that may turn out to be none."""
    if kernel.kind != "random":
        return False
    bounds = step.nodes[kernel.nodes[0]].inputs[-2:]
    op = opdef.lookup(step.nodes[kernel.nodes[0]].op)
    assert op is not None and isinstance(op.lower, Generate)
    return op.lower.distribution == "uniform_int" and any(step.nodes[ref.node].op != "Const" for ref in bounds)


def checks_of(step: Step, reader: StepBuilder, i: int) -> list[Check]:
    """The conditions on indices that node i brings."""
    node = step.nodes[i]
    op = opdef.lookup(node.op)
    if op is None or node.host:
        return []
    if isinstance(op.lower, Indexed):
        return list(op.lower.checks(reader.call(node)))
    if isinstance(op.lower, Alias) and op.lower.checks is not None:
        return list(op.lower.checks(reader.call(node)))
    if isinstance(op.lower, Scatter) and op.lower.message:
        return [Check(1, step.type(node.inputs[0]).dims[0], op.lower.message)]
    return []


def _indices(step: Step, reader: StepBuilder, i: int) -> list[Ref]:
    inputs = step.nodes[i].inputs
    return [inputs[k] for check in checks_of(step, reader, i) for k, _ in _columns(check)]


def _held(step: Step, reader: StepBuilder, i: int) -> set[Known]:
    inputs = step.nodes[i].inputs
    checks = checks_of(step, reader, i)
    return {(root_of(step, inputs[k]), bound) for check in checks for k, bound in _columns(check)}


def _columns(check: Check) -> tuple[tuple[int, Extent], ...]:
    return ((check.indices, check.bound), *check.columns)
