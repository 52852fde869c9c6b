"""`stepjit cache show`: one entry in full."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence

from stepjit.cache import picture
from stepjit.cache.entries import EntryDetails
from stepjit.cli.cache_commands import print_json
from stepjit.cli.columns import date, plain, size, span
from stepjit.explain import guards_of
from stepjit_compiler import dims
from stepjit_compiler.step_text import parse
from stepjit_runtime.manifest import HostOp, KernelText, Manifest, TypeText


def show(options: argparse.Namespace, found: EntryDetails) -> int:
    """Print what was asked for of an entry; 1 when the entry does not have it."""
    wanted = next((name for name in ("step", "ir", "asm", "dot", "svg") if getattr(options, name)), "")
    if not wanted:
        if options.json:
            print_json(_record(found))
        else:
            print("\n".join(_lines(found)))
        return 0
    text = _text(found, wanted)
    if not text:
        print(f"stepjit cache show: this entry holds no {wanted}", file=sys.stderr)
        return 1
    if options.json:
        print_json({"key": found.info.key, wanted: text})
    else:
        print(text, end="" if text.endswith("\n") else "\n")
    return 0


def _text(found: EntryDetails, wanted: str) -> str:
    texts = found.texts
    if wanted == "step":
        parts = [f"; pruned\n{texts['prune']}" if "prune" in texts else ""]
        return "\n".join([*parts, f"; simplified\n{texts['simplify']}" if "simplify" in texts else ""]).strip("\n")
    if wanted == "ir":
        return texts.get("lower", "")
    if wanted == "asm":
        from stepjit_compiler.native import assembly

        return assembly(texts["lower"]) if "lower" in texts else ""
    graph = picture.graph_of(
        texts.get("prune", ""), found.info.fetches, [feed.name for feed in found.info.feeds]
    )
    return picture.dot(graph) if wanted == "dot" else picture.svg(graph)


def _lines(found: EntryDetails) -> Iterator[str]:
    info, manifest = found.info, found.manifest
    made, counts = info.made, info.counts
    yield f"key       {info.key}"
    yield f"fetches   {', '.join(info.fetches) or 'none'}"
    for number, feed in enumerate(info.feeds):
        yield f"{'feeds' if not number else '':9} {feed}"
    line = f" for {made['line']}" if made.get("line") else ""
    yield f"made      {date(float(made.get('time', 0)))} by {made.get('by') or '?'}{line}"
    yield f"used      {date(info.used)}"
    yield f"cost      {span(info.compile_seconds)} to compile, {size(info.bytes)} here, {size(counts['object'])} code"
    yield (
        f"ops       {counts['graph ops']} in the graph -> {counts['ops']} needed -> {counts['nodes']} primitives -> "
        f"{counts['kernels']} kernels, {counts['host ops']} ops in Python"
    )
    yield ""
    yield "made of"
    for name, value in sorted(info.made_of.items()):
        yield from textwrap.wrap(
            f"  {name:<14}{(value or '-').replace(',', ', ')}", 110, subsequent_indent=" " * 16, break_on_hyphens=False,
        ) or [""]  # fmt: skip
    yield from _section("variables", _slots(manifest))
    yield from _section("extents that may be any, and what must hold of them", _guards(manifest))
    yield from _section("kernels", _kernels(manifest))
    yield from _section("ops in Python", [f"{host.op}  {_types(host)}" for host in manifest.hosts])
    yield from _section("memory", _memory(found))


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _slots(manifest: Manifest) -> list[str]:
    how = {(True, True): "read and written", (True, False): "read", (False, True): "written", (False, False): "unused"}
    return [
        f"{number}: {slot.kind} {slot.dtype}[{','.join(slot.dims)}]  {how[slot.reads, slot.writes]}"
        for number, slot in enumerate(manifest.slots)
    ]


def _guards(manifest: Manifest) -> list[str]:
    symbols = {
        text: f"axis {axis} of feed {number}"
        for number, feed in enumerate(manifest.feeds)
        for axis, text in enumerate(feed.dims)
        if not text.isdigit()
    }
    return [*(f"{name}: {where}" for name, where in symbols.items()), *guards_of(manifest)]


def _kernels(manifest: Manifest) -> list[str]:
    rows = [
        [f"k{number}", kernel.kind, f"[{','.join(kernel.space)}]", kernel.cost, _ops(kernel)]
        for number, kernel in enumerate(manifest.kernels)
    ]
    return plain(["", "kind", "over", "ns, about", "ops in it"], rows, ["ns, about"]) if rows else []


def _ops(kernel: KernelText, most: int = 60) -> str:
    from stepjit.explain import op_list

    return textwrap.shorten(op_list(kernel), most, placeholder=" ...")


def _types(host: HostOp) -> str:
    def texts(types: Sequence[TypeText]) -> str:
        return ", ".join(f"{each.dtype}[{','.join(each.dims)}]" for each in types)

    return f"({texts(host.inputs)}) -> ({texts(host.outputs)})"


def _memory(found: EntryDetails) -> list[str]:
    lines = [f"temporaries  {found.manifest.arena} bytes"]
    naive = _naive_bytes(found)
    if naive is not None:
        lines.append(f"every value in a place of its own would take {naive} bytes")
    constants = sum(array.nbytes for array in found.manifest.constants)
    lines.append(f"constants    {size(constants)}")
    return lines


def _naive_bytes(found: EntryDetails) -> str | None:
    """The bytes of all values that the simplified step computes, an expression of the feeds' extents."""
    try:
        step = parse(found.texts["simplify"], {})
    except (KeyError, ValueError):
        return None
    total: dims.Extent = 0
    for node in step.nodes:
        if node.op not in ("_Feed", "_Read", "Const", "_Dims"):
            for type_ in node.types:
                total = total + type_.bytes
    return str(total)


def _record(found: EntryDetails) -> dict[str, object]:
    manifest = found.manifest
    return {
        **{name: getattr(found.info, name) for name in found.info.__dataclass_fields__},
        "slots": manifest.slots, "guards": manifest.checks, "kernels": manifest.kernels,
        "host_ops": [{"op": host.op, "inputs": host.inputs, "outputs": host.outputs} for host in manifest.hosts],
        "arena": manifest.arena, "naive": _naive_bytes(found), "constants": [a.nbytes for a in manifest.constants],
    }  # fmt: skip
