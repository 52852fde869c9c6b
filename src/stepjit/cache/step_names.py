"""A step's text by the names of the user's graph: what `explain` compares and `show --svg` draws."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SOURCES = ("_Feed", "_Read", "_Initialized")
"""Lines that stand for feeds and variables rather than for ops."""
RESULTS = "results"
"""What stands as the op of a line that tells what a branch or loop body returns."""


@dataclass(frozen=True)
class NamedOp:
    """A line of a step's text; inputs are `name:output`, and feeds and variables by their names alone."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, str]
    results: str
    depth: int = 0
    """How many branches and loops it is in."""
    region: str = ""
    """Which part of the innermost of them: `then`, `body`, ..."""


@dataclass
class NamedStep:
    """A step's text by names. A graph op that became several nodes has them all, in order."""

    ops: dict[str, list[NamedOp]] = field(default_factory=dict)
    """By name; inside of a branch or a loop by `body of 'while/While': name`."""
    slots: dict[str, str] = field(default_factory=dict)
    """By name: the kind and type of a variable or a stream of random numbers."""
    writes: dict[str, str] = field(default_factory=dict)
    """By name of a variable: the value that it gets."""


@dataclass
class _Part:
    """A step, or a region of one, that is being read."""

    indent: int
    depth: int = 0
    region: str = ""
    holder: str = ""
    last: str = ""
    """The node read last: regions that follow are its."""
    values: dict[str, str] = field(default_factory=dict)
    """By number: how a node's outputs are named."""
    slots: list[str] = field(default_factory=list)


_LINE = re.compile(r"^%(\d+) = (\S+) ?(.*)$")


def parse_names(text: str, feeds: Sequence[str] = ()) -> NamedStep:
    """A step's text (`step_text.to_text` with names) by names; `feeds` are those of the step's own feeds."""
    found, parts = NamedStep(), [_Part(0)]
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        while len(parts) > 1 and indent < parts[-1].indent:
            parts.pop()
        part = parts[-1]
        if indent == part.indent + 2 and line.endswith(":"):
            region = line.strip()[:-1]
            parts.append(_Part(indent + 2, len(parts), region, f"{region} of '{plain(part.last)}'"))
            continue
        body, _, comment = line[indent:].rpartition("  ; @")
        _read_line(found, part, body or line[indent:], comment.partition(" ")[2] if body else "", feeds)
    return found


def plain(key: str) -> str:
    """The name of an op without where it is."""
    return key.rpartition(": ")[2]


def _read_line(found: NamedStep, part: _Part, body: str, name: str, feeds: Sequence[str]) -> None:
    match = _LINE.match(body)
    if match is None:
        _read_other(found, part, body, name)
        return
    number, op, rest = match.groups()
    inputs, attrs, results = _split(rest)
    if op in SOURCES:
        at = int(next(iter(attrs.values()), "0"))
        part.values[number] = _source_name(op, at, part, feeds)
        return
    name = name or op
    key = f"{part.holder}: {name}" if part.holder else name
    refs = tuple(_ref(ref, part) for ref in inputs)
    found.ops.setdefault(key, []).append(NamedOp(name, op, refs, attrs, results, part.depth, part.region))
    part.values[number] = key + ":"
    part.last = key


def _read_other(found: NamedStep, part: _Part, body: str, name: str) -> None:
    word, _, rest = body.partition(" ")
    if word == "slot":
        slot = name or rest.partition(" ")[0]
        part.slots.append(slot)
        kind = rest.partition(" : ")[2]
        found.slots[slot if kind.startswith("variable") else f"{slot} ({kind.split()[0]})"] = kind
    elif word == "write":
        at, _, ref = rest.partition(" = ")
        found.writes[part.slots[int(at)] if int(at) < len(part.slots) else at] = _ref(ref[1:], part)
    elif word == "fetch" and part.holder:
        refs = tuple(_ref(ref.strip()[1:], part) for ref in rest.split(","))
        found.ops[part.holder] = [NamedOp(part.holder, RESULTS, refs, {}, "", part.depth, part.region)]


def _source_name(op: str, at: int, part: _Part, feeds: Sequence[str]) -> str:
    if op != "_Feed":
        return part.slots[at] if at < len(part.slots) else f"variable {at}"
    if part.holder:
        return f"argument {at} of the {part.region}"
    return feeds[at] if at < len(feeds) else f"feed {at}"


def _split(rest: str) -> tuple[list[str], dict[str, str], str]:
    """Inputs, attrs and results of what follows the op."""
    head, _, results = rest.rpartition(" : ") if " : " in rest else ("", "", rest.removeprefix(": "))
    inputs, attrs = head, ""
    if head.endswith("}") and "{" in head:
        inputs, _, attrs = head.partition("{")
        attrs = attrs[:-1]
    refs = [ref.strip().removeprefix("%") for ref in inputs.split(",") if ref.strip()]
    return refs, dict(_attrs(attrs)), results


def _ref(ref: str, part: _Part) -> str:
    number, _, output = ref.partition(":")
    name = part.values.get(number, number)
    return f"{name}{output or 0}" if name.endswith(":") else name


def _attrs(text: str) -> Iterator[tuple[str, str]]:
    """`a=1, b=(2, 3)` as pairs, not splitting inside of brackets and quotes."""
    depth, quote, start, escaped = 0, "", 0, False
    for at, char in enumerate(text + ","):
        if quote:
            if char == quote and not escaped:
                quote = ""
            escaped = char == "\\" and not escaped
        elif char in "'\"":
            quote = char
        elif char in "([{<":
            depth += 1
        elif char in ")]}>":
            depth -= 1
        elif char == "," and depth == 0:
            name, _, value = text[start:at].strip().partition("=")
            if name:
                yield name, value
            start = at + 1


def renamed(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, str]:
    """Old names to new ones of what has no namesake but is of the same kind: names are no part of keys."""
    free: defaultdict[object, list[str]] = defaultdict(list)
    for name, kind in new.items():
        if name not in old:
            free[kind].append(name)
    found = {}
    for name, kind in old.items():
        if name not in new and free[kind]:
            found[name] = free[kind].pop(0)
    return found
