"""Why two steps have different keys, in the user's words: feeds, fetches, ops and attrs by their names in the graph."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from stepjit.cache.entries import EntryDetails, EntryInfo

_ENVIRONMENT = {
    "code": "stepjit's own code", "abi": "stepjit's calling convention", "llvmlite": "llvmlite", "llvm": "LLVM",
    "triple": "kind of machine", "features": "CPU features", "python": "Python", "numpy": "numpy",
    "traced": "tracing", "skipped rules": "skipped rules of simplify",
}  # fmt: skip
LONGEST_VALUE = 60
"""Characters of an attr's value that are shown."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs: `part` is environment, fetches, feeds, variables, ops or order."""

    part: str
    text: str

    def __str__(self) -> str:
        return self.text


def differences(before: EntryDetails, now: EntryDetails) -> list[Difference]:
    """All that differs, what a user is most likely to have changed first; empty for equal keys."""
    found = [
        *_environment(before.info, now.info),
        *_fetches(before.info, now.info),
        *_feeds(before, now),
    ]
    old, new = parse_names(before.texts.get("prune", "")), parse_names(now.texts.get("prune", ""))
    found += [*_variables(old, new), *_ops(old, new)]
    if not found and before.texts.get("step") != now.texts.get("step"):
        found += _order(before.texts.get("step", ""), now.texts.get("step", ""))
    return found


# --- environment, fetches, feeds ---


def _environment(before: EntryInfo, now: EntryInfo) -> Iterator[Difference]:
    for name in sorted({*before.made_of, *now.made_of}, key=lambda name: (name not in _ENVIRONMENT, name)):
        old, new = before.made_of.get(name, ""), now.made_of.get(name, "")
        if old == new:
            continue
        what = _ENVIRONMENT.get(name, name)
        if name == "features":
            yield Difference("environment", f"{what}: {_sets(old, new)}")
        elif name == "code":
            yield Difference("environment", f"{what}: another version now ({new}, before {old})")
        else:
            yield Difference("environment", f"{what}: {new or 'none'} now, {old or 'none'} before")


def _sets(old: str, new: str) -> str:
    had, has = set(filter(None, old.split(","))), set(filter(None, new.split(",")))
    texts = [f"{', '.join(sorted(has - had))} only now"] if has - had else []
    return "; ".join([*texts, *([f"{', '.join(sorted(had - has))} only before"] if had - has else [])])


def _fetches(before: EntryInfo, now: EntryInfo) -> Iterator[Difference]:
    old, new = Counter(before.fetches), Counter(now.fetches)
    for name in (new - old).elements():
        yield Difference("fetches", f"fetches: '{name}' is new")
    for name in (old - new).elements():
        yield Difference("fetches", f"fetches: '{name}' is gone")
    if old == new and before.fetches != now.fetches:
        yield Difference("fetches", f"fetches: their order is {_list(now.fetches)} now, {_list(before.fetches)} before")


def _feeds(before: EntryDetails, now: EntryDetails) -> Iterator[Difference]:
    old = {feed.name: feed for feed in before.info.feeds}
    new = {feed.name: feed for feed in now.info.feeds}
    for name in [name for name in new if name not in old]:
        yield Difference("feeds", f"feeds: '{name}' is new")
    for name in [name for name in old if name not in new]:
        yield Difference("feeds", f"feeds: '{name}' is gone")
    for name in [name for name in new if name in old]:
        a, b = new[name], old[name]
        if a.dtype != b.dtype:
            yield Difference("feeds", f"feed '{name}': {a.dtype} now, {b.dtype} before")
        here, there = _extents(a.dims), _extents(b.dims)
        if len(here) != len(there):
            yield Difference("feeds", f"feed '{name}': rank {len(here)} now, {len(there)} before")
        elif here != there:
            yield Difference("feeds", f"feed '{name}': shape [{','.join(here)}] now, [{','.join(there)}] before")
    if list(new) != list(old) and set(new) == set(old):
        yield Difference("feeds", f"feeds: their order is {_list(list(new))} now, {_list(list(old))} before")


def _extents(dims: str) -> list[str]:
    return [text if text.isdigit() else "any" for text in dims.split(",")] if dims else []


# --- variables and ops ---


@dataclass(frozen=True)
class _Op:
    """A line of a step's text."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, str]
    results: str

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.op, str(sorted(self.attrs.items())), self.results


@dataclass
class _Text:
    """A step's text by names; a graph op that became several nodes has them numbered: `x`, `x'2`, ..."""

    ops: dict[str, _Op] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)


_LINE = re.compile(r"^%(\d+) = (\S+) ?(.*)$")


def parse_names(text: str) -> _Text:
    """A step's text (`step_text.to_text`), with nodes by the names of their graph ops."""
    found, names = _Text(), {}
    count: defaultdict[str, int] = defaultdict(int)
    for line in text.splitlines():
        body, _, comment = line.rpartition("  ; @")
        if not body:
            body, comment = line, ""
        _, _, name = comment.partition(" ")
        if body.startswith("slot "):
            kind = body.partition(" : ")[2]
            found.slots[_numbered(name or body, count)] = kind
        match = _LINE.match(body)
        if match:
            number, op, rest = match.groups()
            name = _numbered(name or op, count)
            names[number] = name
            found.ops[name] = _op(name, op, rest, names)
    return found


def _numbered(name: str, count: defaultdict[str, int]) -> str:
    count[name] += 1
    return name if count[name] == 1 else f"{name}'{count[name]}"


def _op(name: str, op: str, rest: str, names: Mapping[str, str]) -> _Op:
    head, _, results = rest.rpartition(" : ") if " : " in rest else ("", "", rest.removeprefix(": "))
    inputs, attrs = head, ""
    if head.endswith("}") and "{" in head:
        inputs, _, attrs = head.partition("{")
        attrs = attrs[:-1]
    refs = [ref.strip().removeprefix("%") for ref in inputs.split(",") if ref.strip()]
    said = tuple(_ref(*ref.partition(":")[::2], names) for ref in refs)
    return _Op(name, op, said, dict(_attrs(attrs)), results)


def _ref(number: str, output: str, names: Mapping[str, str]) -> str:
    return f"{names.get(number, number)}:{output or 0}"


def _attrs(text: str) -> Iterator[tuple[str, str]]:
    """`a=1, b=(2, 3)` as pairs, not splitting inside of brackets and quotes."""
    depth, quote, start = 0, "", 0
    for at, char in enumerate(text + ","):
        if quote:
            quote = "" if char == quote and text[at - 1] != "\\" else quote
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


def _variables(old: _Text, new: _Text) -> Iterator[Difference]:
    renamed = _renamed({n: (k,) for n, k in old.slots.items()}, {n: (k,) for n, k in new.slots.items()})
    for name, kind in new.slots.items():
        before = old.slots.get(name)
        if before is None and name not in renamed.values():
            yield Difference("variables", f"{kind.split()[0]} '{name}' is new: {kind}")
        elif before is not None and before != kind:
            yield Difference("variables", f"variable '{name}': {_last(kind)} now, {_last(before)} before")
    for name, kind in old.slots.items():
        if name not in new.slots and name not in renamed:
            yield Difference("variables", f"{kind.split()[0]} '{name}' is gone")


def _ops(old: _Text, new: _Text) -> Iterator[Difference]:
    renamed = _renamed({n: o.kind for n, o in old.ops.items()}, {n: o.kind for n, o in new.ops.items()})
    back = {now: before for before, now in renamed.items()}
    for name, op in new.ops.items():
        before = old.ops.get(back.get(name, name))
        if before is None:
            if op.op not in ("_Feed", "_Read"):
                yield Difference("ops", f"op '{name}' is new: {op.op}")
        else:
            yield from _changed(op, before, renamed)
    for name, op in old.ops.items():
        if name not in new.ops and name not in renamed and op.op not in ("_Feed", "_Read"):
            yield Difference("ops", f"op '{name}' is gone: {op.op}")


def _changed(now: _Op, before: _Op, renamed: Mapping[str, str]) -> Iterator[Difference]:
    if now.op in ("_Feed", "_Read") and now.op == before.op:
        return
    if now.op != before.op:
        yield Difference("ops", f"op '{now.name}': {now.op} now, {before.op} before")
        return
    for attr in sorted({*now.attrs, *before.attrs}):
        a, b = now.attrs.get(attr, "nothing"), before.attrs.get(attr, "nothing")
        if a != b:
            what = "constant" if now.op == "Const" else "op"
            yield Difference("ops", f"{what} '{now.name}': attr {attr}: {_short(a)} now, {_short(b)} before")
    sources = [_renamed_ref(ref, renamed) for ref in before.inputs]
    for k, (a_, b_) in enumerate(zip_longest(now.inputs, sources)):
        if a_ != b_:
            yield Difference("ops", f"op '{now.name}': input {k} is {_quoted(a_)} now, {_quoted(b_)} before")
    if now.attrs == before.attrs and list(now.inputs) == sources and now.results != before.results:
        yield Difference("ops", f"op '{now.name}': {now.results} now, {before.results} before")


def _renamed(old: Mapping[str, tuple[str, ...]], new: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Old names to new ones of what has no namesake but is of the same kind: names are no part of keys."""
    free: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, kind in new.items():
        if name not in old:
            free[kind].append(name)
    found = {}
    for name, kind in old.items():
        if name not in new and free[kind]:
            found[name] = free[kind].pop(0)
    return found


def _renamed_ref(ref: str, renamed: Mapping[str, str]) -> str:
    name, _, output = ref.rpartition(":")
    return f"{renamed.get(name, name)}:{output}"


def _order(old: str, new: str) -> Iterator[Difference]:
    for a, b in zip_longest(new.splitlines(), old.splitlines()):
        if a != b:
            yield Difference("order", f"the step's text: {_short(a or 'nothing')} now, {_short(b or 'nothing')} before")
            return


def _quoted(ref: str | None) -> str:
    return "none" if ref is None else f"'{ref}'"


def _last(kind: str) -> str:
    return kind.split()[-1]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


# --- the nearest entry ---


def nearness(one: EntryInfo, other: EntryInfo) -> tuple[int, int, int, int]:
    """How alike two entries are by their headers alone; larger is nearer."""
    same_fetches = len(set(one.fetches) & set(other.fetches)) - len(set(one.fetches) ^ set(other.fetches))
    feeds, others = {feed.name for feed in one.feeds}, {feed.name for feed in other.feeds}
    same_feeds = len(feeds & others) - len(feeds ^ others)
    counts = sum(abs(one.counts.get(name, 0) - other.counts.get(name, 0)) for name in ("ops", "nodes", "kernels"))
    return same_fetches, same_feeds, -counts, sum(other.made_of.get(k) == v for k, v in one.made_of.items())
