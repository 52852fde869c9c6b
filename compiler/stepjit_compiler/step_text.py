"""The text of a Step: one node a line, equal Steps give equal text, and `parse` reads it back.

    feed 0 : f32[s0_0,784]
    slot 0 : variable f32[784,10]  ; @2 W
    check eq s0_0 s1_0 b'Incompatible shapes'  ; @7
    %0 = _Feed {index=0} : f32[s0_0,784]  ; @1 x
    %1 = Const {dtype=f32, value=<f32[] 2.0>} : f32[]  ; @3
    %2 = TopKV2 %0, %1 {T=f32, sorted=true} : f32[s0_0,2], i32[s0_0,2]  ; @4 top
    %3 = PyFunc %2:1 {token=b'f'} : f32[h1] host after %0, %2  ; @5
    %4 = _While %0 {T=(f32), Tout=(f32), stacked=0} : f32[s0_0,784]
      body:
        feed 0 : f32[s0_0,784]
        ...
    fetch %2, %2:1
    write 0 = %3
    target %3

What stands behind `;` (the graph op's number and name) is no part of the meaning, so the canonical text has none of it.
Literals over a kilobyte stand there by digest; `literals` gives the table that `parse` finds them in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim
from stepjit_compiler.ir import INLINE_BYTES, Check, Literal, Node, Ref, Slot, Step, Type, is_splat
from stepjit_compiler.regions import regions_of
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

READABLE_ELEMENTS = 16
"""Literals up to this many elements are written as numbers; longer ones as their bytes, or the element all are."""


def to_text(step: Step, names: bool = True) -> str:
    """The step's text; without `names` the canonical one, which has no comments."""
    return "\n".join(_lines(step, _commenter(step) if names else lambda origin: "", _TypeTexts())) + "\n"


def _lines(step: Step, comment: Callable[[int], str], type_text: Mapping[Type, str]) -> list[str]:
    lines = [f"feed {i} : {type_}" for i, type_ in enumerate(step.feeds)]
    lines += [f"slot {i} : {slot.kind} {slot.type}{comment(slot.origin)}" for i, slot in enumerate(step.slots)]
    for check in step.checks:
        lines.append(f"check {check.holds} {check.a} {check.b} {check.message.encode()!r}{comment(check.origin)}")
    for i, node in enumerate(step.nodes):
        lines.append(f"%{i} = {_node_text(node, type_text)}{comment(node.origin)}")
        for name, region in regions_of(node):
            lines.append(f"  {name}:")
            lines += ["    " + line for line in _lines(region, comment, type_text)]
    if step.fetches:
        lines.append("fetch " + ", ".join(map(_ref_text, step.fetches)))
    lines += [f"write {slot} = {_ref_text(ref)}" for slot, ref in step.writes]
    if step.targets:
        lines.append("target " + ", ".join(f"%{node}" for node in step.targets))
    return lines


def node_text(step: Step, number: int) -> str:
    """The line of one node."""
    node = step.nodes[number]
    return f"%{number} = {_node_text(node, _TypeTexts())}{_commenter(step)(node.origin)}"


def literals(step: Step) -> dict[str, np.ndarray]:
    """The arrays that the text names by digest."""
    found = {}
    for node in step.nodes:
        for _, value in node.attrs:
            if type(value) is Literal and _is_large(value.array):
                found[_digest(value)] = value.array
        for _, region in regions_of(node):
            found.update(literals(region))
    return found


def parse(text: str, literals: Mapping[str, np.ndarray] = {}) -> Step:
    """The step whose text this is; ValueError naming the line that is none of it."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if not _is_idle(line)]
    return _parsed(lines, 0, literals).step()


def _is_idle(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(";")


def _parsed(lines: Sequence[tuple[int, str]], indent: int, literals: Mapping[str, np.ndarray]) -> _Parser:
    """The parser of a step whose lines are indented so far; deeper ones are regions of the node above them."""
    parser, at = _Parser(literals), 0
    while at < len(lines):
        number, line = lines[at]
        at += 1
        try:
            if not _is_head(line, indent):
                parser.line(line)
                continue
            start = at
            while at < len(lines) and lines[at][1].startswith(" " * (indent + 4)):
                at += 1
            inner = _parsed(lines[start:at], indent + 4, literals)
            parser.region(line.strip()[:-1], inner)
        except (ValueError, KeyError) as error:
            if str(error).startswith("line "):
                raise
            raise ValueError(f"line {number}: {error}: {line}") from None
    return parser


def _is_head(line: str, indent: int) -> bool:
    """Whether the line names the region that follows."""
    return line.startswith(" " * (indent + 2)) and line.endswith(":")


# --- Printing ---------------------------------------------------------------------------------------------------


class _TypeTexts(dict[Type, str]):
    def __missing__(self, type_: Type) -> str:
        text = self[type_] = str(type_)
        return text


def _commenter(step: Step) -> Callable[[int], str]:
    names = step.names

    def comment(origin: int) -> str:
        if origin < 0:
            return ""
        name = names[origin] if origin < len(names) else ""
        return f"  ; @{origin} {name}" if name else f"  ; @{origin}"

    return comment


def _node_text(node: Node, type_text: Mapping[Type, str]) -> str:
    text = node.op
    if node.inputs:
        text += " " + ", ".join([f"%{n}:{k}" if k else f"%{n}" for n, k in node.inputs])
    attrs = [f"{name}={_value_text(value)}" for name, value in node.attrs if type(value) is not Step]
    if attrs:
        text += " {" + ", ".join(attrs) + "}"
    text += " : " + (", ".join([type_text[type_] for type_ in node.types]) or "none")
    if node.host:
        text += " host"
    if node.after:
        text += " after " + ", ".join([f"%{n}" for n in node.after])
    return text


def _ref_text(ref: Ref) -> str:
    return f"%{ref[0]}:{ref[1]}" if ref[1] else f"%{ref[0]}"


def _value_text(value: Any) -> str:
    printer = _PRINTERS.get(type(value))
    if printer is None:
        raise TypeError(f"an attr of type {type(value).__name__} has no text: {value!r}")
    return printer(value)


def _literal_text(literal: Literal) -> str:
    array = literal.array
    dtype = dtypes.as_dtype(array.dtype)
    head = f"{dtype.code}[{','.join(map(str, array.shape))}]"
    if array.size > READABLE_ELEMENTS and _is_readable(dtype, array[..., :1]) and is_splat(array):
        return f"<{head} all:{_number_text(array.item(0))}>"
    if _is_large(array):
        return f"<{head} digest:{_digest(literal)}>"
    if dtype is dtypes.string:
        return f"<{' '.join([head, *(repr(bytes(element)) for element in array.ravel())])}>"
    if array.size <= READABLE_ELEMENTS and _is_readable(dtype, array):
        return f"<{' '.join([head, *map(_number_text, array.ravel().tolist())])}>"
    return f"<{head} bytes:{array.tobytes().hex()}>"


def _is_readable(dtype: DType, array: np.ndarray) -> bool:
    # A NaN's sign and payload, and complex numbers' parts, would be lost in decimals.
    return dtype.kind in "iub" or (dtype.kind == "f" and not np.isnan(array).any())


def _number_text(number: Any) -> str:
    if number is True or number is False:
        return "true" if number else "false"
    return repr(float(number)) if isinstance(number, float) else str(number)


def _is_large(array: np.ndarray) -> bool:
    if array.dtype == object:
        return sum(len(element) for element in array.ravel()) > INLINE_BYTES
    return array.nbytes > INLINE_BYTES


def _digest(literal: Literal) -> str:
    data = literal.key[-1]
    if not isinstance(data, str):
        data = hashlib.blake2b(repr(data).encode(), digest_size=16).hexdigest()
    return data


_PRINTERS: dict[type, Callable[[Any], str]] = {
    DType: lambda value: value.code,
    bool: lambda value: "true" if value else "false",
    int: str,
    float: repr,
    bytes: repr,
    Dim: str,
    Literal: _literal_text,
    type(None): lambda value: "?",
    tuple: lambda value: f"({','.join([_value_text(each) for each in value])})",
}

# --- Parsing ----------------------------------------------------------------------------------------------------

_BYTES = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""")
_WORD = re.compile(r"[^\s,(){}<>=:;\[\]]+")
_REF = re.compile(r"%(\d+)(?::(\d+))?")
_COMMENT = re.compile(r";(?:\s*@(\d+)(?:\s(.*))?)?.*$")
_DTYPES = {dtype.code: dtype for base in dtypes.ALL for dtype in (base, base._as_ref)}
_WORDS = {"true": True, "false": False, "?": None, "inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}
_ESCAPES = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}

_dim = lru_cache(maxsize=4096)(dims.parse)


class _Scanner:
    """Reads a line from left to right."""

    def __init__(self, line: str) -> None:
        self.text, self.at = line, 0

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def take(self, token: str) -> bool:
        self.skip()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise ValueError(f"{token!r} expected at column {self.at + 1}")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        self.skip()
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"unexpected text at column {self.at + 1}")
        self.at = found.end()
        return found

    def word(self) -> str:
        return self.match(_WORD).group()

    def number(self) -> int:
        return int(self.word())

    def ref(self) -> Ref:
        found = self.match(_REF)
        return Ref(int(found[1]), int(found[2] or 0))

    def refs(self) -> list[Ref]:
        found = [self.ref()]
        while self.take(","):
            found.append(self.ref())
        return found

    def balanced(self, ends: str) -> str:
        """The text up to one of `ends` outside brackets."""
        self.skip()
        start, depth = self.at, 0
        while self.at < len(self.text) and (depth or self.text[self.at] not in ends):
            depth += (self.text[self.at] in "([") - (self.text[self.at] in ")]")
            self.at += 1
        return self.text[start : self.at]

    def type(self) -> Type:
        dtype = _DTYPES[self.word()]
        self.expect("[")
        extents = []
        while not self.take("]"):
            extents.append(_dim(self.balanced(",]")))
            self.take(",")
        return Type(dtype, tuple(extents))

    def bytes(self) -> bytes:
        quoted = self.match(_BYTES).group()[2:-1].encode()
        return _ESCAPES.sub(_unescape, quoted)

    def comment(self) -> tuple[int, str]:
        """The origin and the name behind `;`, at the end of the line."""
        self.skip()
        if self.at == len(self.text):
            return -1, ""
        found = self.match(_COMMENT)
        return (int(found[1]), found[2] or "") if found[1] else (-1, "")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)


class _Parser:
    def __init__(self, literals: Mapping[str, np.ndarray]) -> None:
        self.literals = literals
        self.nodes: list[Node] = []
        self.feeds: list[Type] = []
        self.slots: list[Slot] = []
        self.checks: list[Check] = []
        self.fetches: list[Ref] = []
        self.writes: list[tuple[int, Ref]] = []
        self.targets: list[int] = []
        self.names: dict[int, str] = {}

    def line(self, line: str) -> None:
        scan = _Scanner(line)
        if scan.take("%"):
            self.node(scan)
            return
        kind = scan.word()
        if kind == "feed":
            self.numbered(scan, len(self.feeds))
            self.feeds.append(scan.type())
        elif kind == "slot":
            self.numbered(scan, len(self.slots))
            name, type_ = scan.word(), scan.type()
            self.slots.append(Slot(name, type_, self.origin(scan)))
        elif kind == "check":
            holds, a, b = scan.word(), _dim(scan.balanced(" ")), _dim(scan.balanced(" "))
            message = scan.bytes().decode()
            self.checks.append(Check(holds, a, b, message, self.origin(scan)))
        elif kind == "fetch":
            self.fetches += scan.refs()
        elif kind == "write":
            slot = scan.number()
            scan.expect("=")
            self.writes.append((slot, scan.ref()))
        elif kind == "target":
            self.targets += [ref.node for ref in scan.refs()]
        else:
            raise ValueError(f"{kind!r} begins no line of a step")
        self.origin(scan)

    def numbered(self, scan: _Scanner, number: int) -> None:
        if scan.number() != number:
            raise ValueError(f"number {number} expected")
        scan.expect(":")

    def node(self, scan: _Scanner) -> None:
        if scan.number() != len(self.nodes):
            raise ValueError(f"%{len(self.nodes)} expected")
        scan.expect("=")
        op = scan.word()
        scan.skip()
        inputs = scan.refs() if scan.text.startswith("%", scan.at) else []
        attrs = []
        if scan.take("{"):
            while not scan.take("}"):
                name = scan.word()
                scan.expect("=")
                attrs.append((name, self.value(scan)))
                scan.take(",")
        scan.expect(":")
        types = []
        if not scan.take("none"):
            types.append(scan.type())
            while scan.take(","):
                types.append(scan.type())
        host = scan.take("host")
        after = tuple(ref.node for ref in scan.refs()) if scan.take("after") else ()
        self.nodes.append(Node(op, tuple(inputs), tuple(attrs), tuple(types), after, self.origin(scan), host))

    def region(self, name: str, inner: _Parser) -> None:
        """The last node has this region."""
        node = self.nodes[-1]
        self.nodes[-1] = replace(node, attrs=tuple(sorted((*node.attrs, (name, inner.step())), key=itemgetter(0))))
        self.names |= inner.names

    def value(self, scan: _Scanner) -> Any:
        if scan.take("<"):
            return self.literal(scan)
        if scan.take("("):
            found = []
            while not scan.take(")"):
                found.append(self.value(scan))
                scan.take(",")
            return tuple(found)
        if scan.text.startswith(("b'", 'b"'), scan.at):
            return scan.bytes()
        return _scalar(scan.balanced(",)} "))

    def literal(self, scan: _Scanner) -> Literal:
        type_ = scan.type()
        shape = tuple(int(str(extent)) for extent in type_.dims)
        if scan.take("digest:"):
            array = self.literals[scan.word()]
            scan.expect(">")
        elif scan.take("all:"):
            array = np.full(shape, _scalar(scan.balanced(">")), type_.dtype.np)
            scan.expect(">")
        elif scan.take("bytes:"):
            data = "" if scan.take(">") else scan.word()
            array = np.frombuffer(bytes.fromhex(data), type_.dtype.np).reshape(shape)
            if data:
                scan.expect(">")
        else:
            is_string = type_.dtype is dtypes.string
            elements: list[Any] = []
            while not scan.take(">"):
                elements.append(scan.bytes() if is_string else _scalar(scan.balanced(" >")))
            array = np.empty(shape, type_.dtype.np)
            array.reshape(-1)[:] = elements
        return Literal(array)

    def origin(self, scan: _Scanner) -> int:
        origin, name = scan.comment()
        if name:
            self.names[origin] = name
        return origin

    def step(self) -> Step:
        names = [self.names.get(i, "") for i in range(max(self.names, default=-1) + 1)]
        return Step(
            tuple(self.nodes), tuple(self.feeds), tuple(self.fetches), tuple(self.writes), tuple(self.targets),
            tuple(self.slots), tuple(self.checks), tuple(names),
        )  # fmt: skip


_NUMBER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\d+)(e[+-]?\d+)?")


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _DTYPES[text] if text in _DTYPES else _dim(text)
