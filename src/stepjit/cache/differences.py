"""Why two steps have different keys, in the user's words: feeds, fetches, ops and attrs by their names in the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from stepjit.cache.entries import EntryDetails, EntryInfo
from stepjit.cache.op_differences import op_differences, variable_differences
from stepjit.cache.step_names import parse_names

_ENVIRONMENT = {
    "code": "stepjit's own code", "abi": "stepjit's calling convention", "llvmlite": "llvmlite", "llvm": "LLVM",
    "triple": "kind of machine", "features": "CPU features", "python": "Python", "numpy": "numpy",
    "traced": "tracing", "skipped rules": "skipped rules of simplify",
}  # fmt: skip


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
    old, new = (
        parse_names(each.texts.get("prune", ""), [feed.name for feed in each.info.feeds]) for each in (before, now)
    )
    found += [Difference("variables", text) for text in variable_differences(old, new)]
    found += [Difference("ops", text) for text in op_differences(old, new)]
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


def _order(old: str, new: str) -> Iterator[Difference]:
    for a, b in zip_longest(new.splitlines(), old.splitlines()):
        if a != b:
            here, there = (a or "nothing").strip(), (b or "nothing").strip()
            yield Difference("order", f"the step's text: {here} now, {there} before")
            return


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
