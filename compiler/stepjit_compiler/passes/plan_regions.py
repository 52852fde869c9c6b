"""plan regions: the Steps inside branches and loops get plans of their own, as the step around them has one."""

from __future__ import annotations

from dataclasses import replace

from stepjit_compiler.ir import Node, Step
from stepjit_compiler.passes.analyse import analyse
from stepjit_compiler.passes.fuse import fuse
from stepjit_compiler.passes.plan_memory import plan_memory
from stepjit_compiler.plan import Kernel, Plan

ORDER = {"_If": ("then", "else"), "_While": ("cond", "body")}
"""By op: its regions in the order in which their code is written."""

ASSUME = Kernel("assume", (), (), (), "assume")
"""The check of what a region assumes of extents, made when it is entered."""


def plan_regions(plan: Plan) -> Plan:
    """The plan with plans of the regions in it, at every depth; constants are numbered through all of them."""
    following = plan.first_constant + len(plan.constants)
    found: dict[int, tuple[Plan, ...]] = {}
    for kernel in plan.kernels:
        if kernel.kind in ("if", "while"):
            node = plan.step.nodes[kernel.nodes[0]]
            inner = []
            for name in ORDER[node.op]:
                inner.append(_planned(node, name, node.attr[name], following))
                following += sum(len(each.constants) for each in inner[-1].plans())
            found[kernel.nodes[0]] = tuple(inner)
    return replace(plan, regions=found) if found else plan


def _planned(node: Node, name: str, region: Step, first_constant: int) -> Plan:
    kernels = fuse(region, analyse(region))
    if region.checks:
        kernels = (ASSUME, *kernels)
    variables = len(node.inputs) if name == "body" else 0
    plan = plan_memory(region, kernels, region=True, variables=variables)
    return plan_regions(replace(plan, first_constant=first_constant))
