"""simplify regions: what crosses the border of branches and loops.

  settle   a constant that goes in is a constant inside
  take     If(true, x) -> then(x); While(x) -> x where the condition is false from the start
  pass     a loop variable that the body hands on is behind the loop what it was before it
  hoist    what a loop computes of such variables alone is computed before it, unless that may fail
  drop     results that nobody takes, loop variables that only they need, inputs that no region looks at

Runs between runs of `simplify`, until neither finds anything; inner regions come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.ir import INLINE_BYTES, Check, Literal, Node, Ref, Step, Type
from stepjit_compiler.lowering import Alias, Generate, Matrices
from stepjit_compiler.passes.early_checks import checks_of
from stepjit_compiler.passes.fuse import reader_of
from stepjit_compiler.passes.simplify import SPREADING
from stepjit_compiler.regions import CONTROL, asked, has_effect, regions_of, renamed, required, with_regions
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import is_late
from stepjit_runtime import dtypes

_FREE = frozenset(("_Feed", "Const", "_Dims"))
"""Nodes that cost nothing where they are."""


_BY_RESULT = ("_shapes", "_taken")
"""Attrs of branches that have an entry for each result."""


def simplify_regions(step: Step) -> Step:
    """The step with less in its regions; the very step where there is nothing to do."""
    if not any(node.op in CONTROL for node in step.nodes):
        return step
    return _Rewriter(step).run()


class _Rewriter:
    """Writes the step's nodes anew, one by one."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.nodes: list[Node] = []
        self.checks: list[Check] = []
        self.place: dict[Ref, Ref] = {}
        self.number: dict[int, int] = {}
        self.changed = False
        wanted = (*step.fetches, *(ref for _, ref in step.writes), *(ref for n in step.nodes for ref in n.inputs))
        self.used = set(wanted)
        self.required = required(step) if step.slots else set()
        names = (name for _, type_ in step.refs() for extent in type_.dims for name in dims.symbols(extent))
        self.last_late = max([int(name[1:]) for name in names if name[0] == "h"], default=0)

    def run(self) -> Step:
        for i, node in enumerate(self.step.nodes):
            inputs = tuple(self.place[ref] for ref in node.inputs)
            node = replace(node, inputs=inputs, after=tuple(self.number[j] for j in node.after))
            if node.op in CONTROL:
                self.control(i, node)
            elif node.op == "_Initialized" and node.attr["slot"] in self.required:
                self.changed = True
                self.put(i, self.const_true(node))
            else:
                self.put(i, node)
        if not self.changed:
            return self.step
        targets = [self.number[j] for j in self.step.targets if j in self.number]
        new = self.step.over(self.nodes, self.place.__getitem__, targets)
        return replace(new, checks=(*self.step.checks, *self.checks)).without_dead()

    def put(self, i: int, node: Node, outputs: Sequence[int | None] | None = None) -> None:
        """Write `node` in place of the old node i; `outputs` tells where the old outputs are among its own."""
        new = self.append(node)
        self.number[i] = new
        for k in range(len(self.step.nodes[i].types)):
            at = k if outputs is None else outputs[k]
            if at is not None:
                self.place[Ref(i, k)] = Ref(new, at)

    def append(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    @staticmethod
    def const_true(node: Node) -> Node:
        return replace(node, op="Const", attrs=(("dtype", dtypes.bool_), ("value", Literal(np.array(True)))))

    # --- one branch or loop ---

    def control(self, i: int, node: Node) -> None:
        node = self.change(node, with_regions(node, lambda name, region: simplify_regions(region)))
        node = self.change(node, self.settled(node))
        if node.op == "_If":
            condition = self.nodes[node.inputs[0].node]
            if condition.op == "Const" and not has_effect(node):
                taken = node.attr["then" if condition.attr["value"].array else "else"]
                self.set_outputs(i, self.splice(taken, node.inputs[1:]))
            else:
                self.branch(i, node)
            return
        cond = node.attr["cond"]
        holds = cond.nodes[cond.fetches[0].node]
        if holds.op == "Const" and not holds.attr["value"].array and not node.attr["stacked"] and not cond.targets:
            self.set_outputs(i, node.inputs)
        else:
            self.loop(i, node)

    def change(self, old: Node, new: Node) -> Node:
        same = all(a is b for (_, a), (_, b) in zip(regions_of(old), regions_of(new), strict=True))
        self.changed = self.changed or not same
        return old if same else new

    def set_outputs(self, i: int, refs: Iterable[Ref]) -> None:
        self.changed = True
        self.place.update({Ref(i, k): ref for k, ref in enumerate(refs)})

    def settled(self, node: Node) -> Node:
        """The node's regions with constants in place of the feeds that are constants."""
        first = node.op == "_If"
        fixed = range(len(node.inputs) - 1) if first else sorted(_kept(node))
        known = {}
        for k in fixed:
            source = self.nodes[node.inputs[k + first].node]
            if source.op == "Const" and _small(source):
                known[k] = source
        return with_regions(node, lambda name, region: _with_constants(region, known)) if known else node

    def splice(self, region: Step, feeds: Sequence[Ref]) -> list[Ref]:
        """The region's nodes among those of the step; what it fetches."""
        own = {name for type_ in region.feeds for extent in type_.dims for name in dims.symbols(extent)}
        born = {name for _, type_ in region.refs() for extent in type_.dims for name in dims.symbols(extent)} - own
        names = {}
        for name in sorted(born):
            self.last_late += 1
            names[name] = dims.symbol(f"h{self.last_late}")
        place: list[int] = []
        mapped: dict[Ref, Ref] = {}
        for i, node in enumerate(region.nodes):
            if node.op == "_Feed":
                mapped[Ref(i, 0)] = feeds[node.attr["index"]]
                place.append(-1)
                continue
            node = renamed(node, names) if names else node
            moved = replace(
                node, inputs=tuple(mapped[ref] for ref in node.inputs), after=tuple(place[j] for j in node.after)
            )
            place.append(self.append(moved))
            mapped.update({Ref(i, k): Ref(place[-1], k) for k in range(len(node.types))})
        self.checks.extend(check.substitute(names) if names else check for check in region.checks)
        return [mapped[ref] for ref in region.fetches]

    # --- branches ---

    def branch(self, i: int, node: Node) -> None:
        """Without results that nobody takes, and inputs that no branch looks at."""
        count = len(node.types)
        taken = [k for k in range(count) if Ref(i, k) in self.used or i in self.step.targets]
        steps = dict(regions_of(node))
        roots = {name: [*(region.fetches[k].node for k in taken), *region.targets] for name, region in steps.items()}
        seen = set().union(*(_feeds_of(region, roots[name]) for name, region in steps.items()))
        looked = sorted(seen | _tellers(steps.values(), seen, range(len(node.inputs) - 1)))
        if len(taken) == count and len(looked) == len(node.inputs) - 1:
            self.put(i, node)
            return
        self.changed = True
        new = {
            name: _reduced(region, looked, [region.fetches[k] for k in taken]) for name, region in steps.items()
        }
        types = tuple(node.types[k] for k in taken)
        shapes = tuple((name, tuple(node.attr[name][k] for k in taken)) for name in _BY_RESULT if name in node.attr)
        shapes += tuple((name, value) for name, value in node.attrs if name == "_told")
        attrs = (
            ("Tin", tuple(new["then"].feeds[k].dtype for k in range(len(looked)))),
            ("Tout", tuple(type_.dtype for type_ in types)), *shapes, ("else", new["else"]), ("then", new["then"]),
        )  # fmt: skip
        inputs = (node.inputs[0], *(node.inputs[1 + k] for k in looked))
        self.put(i, replace(node, inputs=inputs, attrs=attrs, types=types), _positions(taken, count))

    # --- loops ---

    def loop(self, i: int, node: Node) -> None:
        body, cond, count = node.attr["body"], node.attr["cond"], len(node.inputs)
        kept = _kept(node)
        asked = i in self.step.targets
        taken = {k for k in range(len(node.types)) if asked or Ref(i, k) in self.used}
        live = self.live(body, cond, taken - kept, count)
        live = self.live(body, cond, live | _tellers((body, cond), live, [*sorted(kept), *range(count)]), count)
        stacked = [k for k in range(count, len(node.types)) if k in taken]
        hoisted = [*self.hoistable(body, kept, node, "body"), *self.hoistable(cond, kept, node, "cond")]
        passed = any(Ref(i, k) in self.used for k in kept)
        if len(live) == count and len(stacked) == len(node.types) - count and not hoisted and not passed:
            self.put(i, node)
            return
        self.changed = True
        order = sorted(live)
        added = [node.attr[where].type(ref) for where, ref in hoisted]
        place = {
            where: {ref: len(order) + n for n, (name, ref) in enumerate(hoisted) if name == where}
            for where in ("body", "cond")
        }
        following: list[Ref | int] = [body.fetches[k] for k in order]
        following += range(len(order), len(order) + len(hoisted))
        following += [body.fetches[k] for k in stacked]
        new_body = _reduced(body, order, following, added, place["body"])
        new_cond = _reduced(cond, order, cond.fetches, added, place["cond"])
        before = [self.hoist(node, where, ref) for where, ref in hoisted]
        types = (*(node.types[k] for k in order), *added, *(node.types[k] for k in stacked))
        attrs = (
            ("T", tuple(type_.dtype for type_ in new_body.feeds)), ("Tout", tuple(type_.dtype for type_ in types)),
            ("body", new_body), ("cond", new_cond), ("stacked", len(stacked)),
        )  # fmt: skip
        inputs = (*(node.inputs[k] for k in order), *before)
        outputs = _positions([*order, *[-1] * len(hoisted), *stacked], len(node.types))
        self.put(i, replace(node, inputs=inputs, attrs=attrs, types=types), outputs)
        self.place.update({Ref(i, k): node.inputs[k] for k in kept})

    @staticmethod
    def live(body: Step, cond: Step, taken: set[int], count: int) -> set[int]:
        """The loop variables that the condition, effects or what is taken need, in whatever trip."""
        roots = [*body.targets, *(body.fetches[k].node for k in taken)]
        roots += [i for i, node in enumerate(body.nodes) if node.op in CONTROL and has_effect(node)]
        found = {k for k in taken if k < count} | _feeds_of(cond, [*(ref.node for ref in cond.fetches), *cond.targets])
        while True:
            reached = found | _feeds_of(body, [*roots, *(body.fetches[k].node for k in found)])
            if reached == found:
                return found
            found = reached

    def hoistable(self, region: Step, kept: set[int], node: Node, where: str) -> list[tuple[str, Ref]]:
        """(region's name, value): what others in the region need of what follows from variables that never change."""
        reader = reader_of(region)
        steady: set[int] = set()
        for i, each in enumerate(region.nodes):
            if each.op == "_Feed":
                fixed = each.attr["index"] in kept
            else:
                fixed = all(ref.node in steady for ref in each.inputs) and _is_safe(region, reader, i)
            if fixed:
                steady.add(i)
        needed = {ref for i, each in enumerate(region.nodes) if i not in steady for ref in each.inputs}
        needed |= set(region.fetches)
        return [(where, ref) for ref in sorted(needed) if ref.node in steady and _is_worth_it(region, ref)]

    def hoist(self, node: Node, where: str, ref: Ref) -> Ref:
        """Compute a value of the region among the step's nodes."""
        region = node.attr[where]
        wanted = {ref.node}
        for i in range(ref.node, -1, -1):
            if i in wanted:
                wanted.update(each.node for each in region.nodes[i].inputs)
        mapped: dict[Ref, Ref] = {}
        for i in sorted(wanted):
            each = region.nodes[i]
            if each.op == "_Feed":
                mapped[Ref(i, 0)] = node.inputs[each.attr["index"]]
                continue
            new = self.append(replace(each, inputs=tuple(mapped[input_] for input_ in each.inputs)))
            mapped.update({Ref(i, k): Ref(new, k) for k in range(len(each.types))})
        return mapped[ref]


def _kept(node: Node) -> set[int]:
    """The loop variables that the body hands on as they are."""
    body = node.attr["body"]
    fetched = [body.nodes[ref.node] for ref in body.fetches[: len(node.inputs)]]
    return {k for k, source in enumerate(fetched) if source.op == "_Feed" and source.attr["index"] == k}


def _small(constant: Node) -> bool:
    array = constant.attr["value"].array
    return bool(array.dtype == object or array.nbytes <= INLINE_BYTES)


def _with_constants(region: Step, known: Mapping[int, Node]) -> Step:
    found = {i for i, node in enumerate(region.nodes) if node.op == "_Feed" and node.attr["index"] in known}
    if not found:
        return region
    nodes = tuple(
        replace(known[node.attr["index"]], origin=node.origin) if i in found else node
        for i, node in enumerate(region.nodes)
    )
    return replace(region, nodes=nodes)


def _feeds_of(region: Step, roots: Iterable[int]) -> set[int]:
    """The numbers of the feeds that these nodes depend on."""
    wanted = set(roots)
    for i in range(len(region.nodes) - 1, -1, -1):
        if i in wanted:
            wanted.update(ref.node for ref in region.nodes[i].inputs)
            wanted.update(region.nodes[i].after)
    return {region.nodes[i].attr["index"] for i in wanted if region.nodes[i].op == "_Feed"}


def _tellers(regions: Iterable[Step], chosen: set[int], others: Iterable[int]) -> set[int]:
    """Those of the other feeds that the regions need for extents: what `chosen` does not tell them."""
    wanted = {name for region in regions for name in asked(region)}
    (*_, region) = regions
    wanted -= {name for k in chosen for extent in region.feeds[k].dims for name in dims.symbols(extent)}
    found = set()
    for k in others:
        told = {name for extent in region.feeds[k].dims for name in dims.symbols(extent)}
        if wanted & told:
            wanted -= told
            found.add(k)
    return found


def _is_safe(region: Step, reader: StepBuilder, i: int) -> bool:
    """Whether node i may run where the loop does not: it is pure, native and can't fail."""
    node = region.nodes[i]
    op = opdef.lookup(node.op)
    if node.op in ("Const", "_Dims"):
        return not any(is_late(extent) for extent in node.attr.get("dims", ()))
    if op is None or isinstance(op.lower, (Matrices, Generate)):
        return False
    return not (op.stateful or node.host or node.after or checks_of(region, reader, i))


def _is_worth_it(region: Step, ref: Ref) -> bool:
    node = region.nodes[ref.node]
    op = opdef.lookup(node.op)
    return not (node.op in _FREE or node.op in SPREADING or op is None or isinstance(op.lower, Alias))


def _reduced(
    region: Step, kept: Sequence[int], fetches: Sequence[Ref | int], added: Sequence[Type] = (),
    replaced: Mapping[Ref, int] = {},
) -> Step:  # fmt: skip
    """The region over the feeds `kept` and then those `added`, some of which stand for values that it computed.

    A number among the fetches is that of a feed.
    """
    feeds = [*(region.feeds[k] for k in kept), *added]
    number = {k: n for n, k in enumerate(kept)}
    nodes = [
        Node("_Feed", (), (("index", len(kept) + n),), (type_,)) for n, type_ in enumerate(added)
    ]
    shift = len(nodes)
    place = {ref: Ref(index - len(kept), 0) for ref, index in replaced.items()}

    def moved(ref: Ref) -> Ref:
        return place.get(ref) or Ref(ref.node + shift, ref.output)

    for node in region.nodes:
        if node.op == "_Feed":
            # One that is dropped stays for now: nothing that is left needs it.
            node = replace(node, attrs=(("index", number.get(node.attr["index"], -1)),))
        after = tuple(j + shift for j in node.after)
        nodes.append(replace(node, inputs=tuple(map(moved, node.inputs)), after=after))
    first: dict[int, Ref] = {n: Ref(n - len(kept), 0) for n in range(len(kept), len(feeds))}
    found = tuple(first[each] if isinstance(each, int) else moved(each) for each in fetches)
    targets = tuple(j + shift for j in region.targets)
    return replace(region, nodes=tuple(nodes), feeds=tuple(feeds), fetches=found, targets=targets).without_dead()


def _positions(taken: Sequence[int], count: int) -> list[int | None]:
    """By old number: the place among those taken."""
    place = {k: n for n, k in enumerate(taken)}
    return [place.get(k) for k in range(count)]
