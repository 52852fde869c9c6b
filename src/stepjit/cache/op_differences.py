"""In which ops and variables two steps differ, by the names of the user's graph, causes before what follows of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from stepjit.cache.step_names import RESULTS, NamedOp, NamedStep, plain, renamed

LONGEST_VALUE = 60
"""Characters of an attr's value that are shown."""


@dataclass
class _Found:
    """Texts by how likely they name the cause."""

    attrs: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def in_order(self) -> list[str]:
        return [*self.attrs, *self.replaced, *self.new, *self.gone, *self.inputs, *self.types]


def op_differences(old: NamedStep, new: NamedStep) -> list[str]:
    """All that differs in the ops, a text each."""
    found = _Found()
    names = renamed({n: _kind(g) for n, g in old.ops.items()}, {n: _kind(g) for n, g in new.ops.items()})
    back = {now: before for before, now in names.items()}
    names.update(renamed(old.slots, new.slots))
    stand_ins = _stand_ins(old, new, names)
    for name, group in new.ops.items():
        before = old.ops.get(back.get(name, name))
        if before is not None:
            _compare(found, group, before, {**names, **stand_ins})
        elif name in stand_ins.values():
            was = next(each for each, now in stand_ins.items() if now == name)
            here, there = _work(group), _work(old.ops[was])
            found.replaced.append(f"op '{plain(name)}' is in place of '{plain(was)}': {here} now, {there} before")
        elif group[0].op != RESULTS:
            found.new.append(f"op '{plain(name)}' is new: {_work(group)}")
    for name, group in old.ops.items():
        if name not in new.ops and name not in names and name not in stand_ins and group[0].op != RESULTS:
            found.gone.append(f"op '{plain(name)}' is gone: {_work(group)}")
    return found.in_order()


def _kind(group: Sequence[NamedOp]) -> tuple[object, ...]:
    return tuple((each.op, str(sorted(each.attrs.items())), each.results, each.region) for each in group)


def _work(group: Sequence[NamedOp]) -> str:
    """What a graph op does: `Tanh`, or the primitives that it became."""
    ops = [each.op.removeprefix("_") for each in group]
    return ops[0] if len(ops) == 1 else f"{len(ops)} steps ({_short(' '.join(ops))})"


def _stand_ins(old: NamedStep, new: NamedStep, names: Mapping[str, str]) -> dict[str, str]:
    """Old names to new ones of ops that are read, of the same inputs, where another op was read before."""
    found: dict[str, str] = {}
    back = {now: before for before, now in names.items()}
    for name, group in new.ops.items():
        before = old.ops.get(back.get(name, name))
        if before is None or len(before) != len(group):
            continue
        for now, was in zip(group, before, strict=True):
            for a, b in zip(now.inputs, was.inputs, strict=False):
                here, there = a.rpartition(":")[0], b.rpartition(":")[0]
                is_change = here in new.ops and there in old.ops and here not in old.ops and there not in new.ops
                if is_change and there not in names and _sources(new, here, {}) == _sources(old, there, names):
                    found.setdefault(there, here)
    return found


def _sources(step: NamedStep, name: str, names: Mapping[str, str]) -> list[str]:
    return [_renamed_ref(ref, names) for ref in step.ops[name][0].inputs]


def _compare(found: _Found, group: Sequence[NamedOp], before: Sequence[NamedOp], names: Mapping[str, str]) -> None:
    """A graph op that is in both."""
    name = group[0].name
    what = f"{name}: result" if group[0].op == RESULTS else f"op '{name}': input"
    if [each.op for each in group] != [each.op for each in before]:
        found.attrs.append(f"op '{name}': {_work(group)} now, {_work(before)} before")
        return
    for now, was in zip(group, before, strict=True):
        changed = _attrs(found, now, was)
        sources = [_renamed_ref(ref, names) for ref in was.inputs]
        for k, (a, b) in enumerate(zip_longest(now.inputs, sources)):
            if a != b:
                found.inputs.append(f"{what} {k} is {_quoted(a)} now, {_quoted(b)} before")
                changed = True
        if not changed and now.results != was.results:
            a, b = _types(now.results, was.results)
            found.types.append(f"op '{name}': {a} now, {b} before")


def _attrs(found: _Found, now: NamedOp, was: NamedOp) -> bool:
    """Whether attrs differ; those that only follow from the inputs' types count as types."""
    differing = [a for a in sorted({*now.attrs, *was.attrs}) if now.attrs.get(a) != was.attrs.get(a)]
    for attr in differing:
        a, b = now.attrs.get(attr, "nothing"), was.attrs.get(attr, "nothing")
        if now.op == "Const":
            if attr == "value":
                found.attrs.append(f"constant '{now.name}': {_values(a, b)}")
        elif attr == "_shapes":
            found.attrs.append(f"op '{now.name}': its results had shapes {_short(a)} now, {_short(b)} before")
        else:
            texts = found.types if attr.startswith("T") and now.inputs else found.attrs
            texts.append(f"op '{now.name}': attr {attr}: {_short(a)} now, {_short(b)} before")
    return bool(differing)


_ARRAY = re.compile(r"<(\w+)(\[[\d,]*\])(?: (.*))?>", re.DOTALL)


def _values(now: str, before: str) -> str:
    """Two constants: `0.2 now, 0.1 before`."""
    a, b = _ARRAY.fullmatch(now), _ARRAY.fullmatch(before)
    if a is None or b is None:
        return f"{_short(now)} now, {_short(before)} before"
    if a.group(1, 2) != b.group(1, 2):
        return f"{_value(a, True)} now, {_value(b, True)} before"
    if any((text or "").startswith(("digest:", "bytes:")) for text in (a[3], b[3])):
        return f"other values now ({a[1]}{a[2]})"
    return f"{_value(a, False)} now, {_value(b, False)} before"


def _value(match: re.Match[str], with_type: bool) -> str:
    dtype, shape, text = match.group(1), match.group(2), match.group(3) or "nothing"
    if text.startswith(("digest:", "bytes:")):
        return f"{dtype}{shape}"
    if dtype == "f32" and shape == "[]":
        text = str(np.float32(text))  # in as many digits as it takes
    if text.startswith("all:"):
        text = f"all {text[4:]}"
    text = _short(text if shape == "[]" or text.startswith("all ") else f"[{text}]")
    return f"{text} ({dtype}{shape})" if with_type else text


def _types(now: str, before: str) -> tuple[str, str]:
    """Types with `?` for extents that may be any, where that does not make them equal."""
    a, b = (re.sub(r"\b[sh]\d+(_\d+)?\b", "?", text) for text in (now, before))
    return (now, before) if a == b else (a, b)


def variable_differences(old: NamedStep, new: NamedStep) -> Iterator[str]:
    """In which variables, and in what is written to them."""
    names = renamed(old.slots, new.slots)
    for name, kind in new.slots.items():
        before, what = old.slots.get(name), _what(kind)
        if before is None and name not in names.values():
            yield f"{what} '{_base(name)}' is new: {kind.split()[-1]}"
        elif before is not None and before != kind:
            yield f"{what} '{_base(name)}': {kind.split()[-1]} now, {before.split()[-1]} before"
    for name, kind in old.slots.items():
        if name not in new.slots and name not in names:
            yield f"{_what(kind)} '{_base(name)}' is gone"
    for name in new.slots:
        if name in old.slots and (name in new.writes) != (name in old.writes):
            how = "written now, only read before" if name in new.writes else "only read now, written before"
            yield f"variable '{_base(name)}': {how}"


def _what(kind: str) -> str:
    return "variable" if kind.startswith("variable") else "stream of random numbers"


def _base(name: str) -> str:
    return name.partition(" (")[0]


def _renamed_ref(ref: str, names: Mapping[str, str]) -> str:
    name, colon, output = ref.rpartition(":")
    return f"{names.get(name, name)}:{output}" if colon else names.get(ref, ref)


def _quoted(ref: str | None) -> str:
    if ref is None:
        return "none"
    return ref if ref.startswith("argument ") else f"'{plain(ref)}'"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
