"""What a program says about itself: plain data, so that it can be stored and read by another process."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

Dims = tuple[str, ...]
"""Extents as text: numbers, or expressions over symbols."""


@dataclass(frozen=True)
class TypeText:
    """A dtype's code and extents as text."""

    dtype: str
    dims: Dims


@dataclass(frozen=True)
class SlotText:
    """A slot: `variable` or `stream`, its type, the number of the graph op that names it, how the step uses it."""

    kind: str
    dtype: str
    dims: Dims
    origin: int
    reads: bool
    writes: bool


@dataclass(frozen=True)
class CheckText:
    """A check of extents that ran before the kernels: `a` holds `b`, and what to say when not."""

    holds: str
    a: str
    b: str
    message: str
    origin: int


@dataclass(frozen=True)
class FailureText:
    """A check inside a kernel, and how to tell its failure: see `told`."""

    message: str
    origin: int
    code: int
    more: tuple[str, ...] = ()

    def told(self, op: str, at: int, value: int, bound: int, more: Sequence[int]) -> str:
        """The message about op `op` with the numbers that native code gave; `more` says what those at the end are."""
        numbers: dict[str, list[int]] = {"place": [], "row": [], "shape": [], "left": []}
        for name, number in zip(self.more, more):
            numbers[name].append(number)
        place: list[int] = []
        rest = at
        for extent in reversed(numbers["place"]):
            rest, here = divmod(rest, extent)
            place.insert(0, here)
        return self.message.format(
            op=op, at=at, value=value, bound=bound, place=f"[{','.join(map(str, (rest, *place)))}]",
            row=", ".join(map(str, numbers["row"])), shape=",".join(map(str, numbers["shape"])),
            left=",".join(map(str, numbers["left"])),
        )  # fmt: skip


@dataclass(frozen=True)
class HostOp:
    """An op that Python runs in mid-step."""

    op: str
    attrs: dict[str, Any]
    inputs: tuple[TypeText, ...]
    outputs: tuple[TypeText, ...]
    origin: int


@dataclass(frozen=True)
class StoreText:
    """A value that a kernel stores: output `output` of its op number `op`, and the kind of buffer that it is in."""

    op: int
    output: int
    dtype: str
    dims: Dims
    buffer: str


@dataclass(frozen=True)
class KernelText:
    """A kernel for reports: its ops' types in order, the extents that it runs over, its nanoseconds (an extent)."""

    kind: str
    ops: tuple[str, ...]
    origins: tuple[int, ...]
    """By op: the number of the graph op that it comes from."""
    space: Dims
    cost: str
    name: str = ""
    flops: Dims = ()
    """By op: floating-point operations (extents), as `stepjit_compiler/work.py` counts them."""
    work: Dims = ()
    """By op: its part in the kernel's time is this over the sum."""
    stores: tuple[StoreText, ...] = ()
    reads: str = "0"
    """Bytes read, an extent."""
    writes: str = "0"
    """Bytes written, an extent."""
    nodes: tuple[int, ...] = ()
    """By op: a number that it has in all kernels that compute it."""
    depth: int = 0
    """How many branches and loops it is in: it follows the one that it is part of."""
    shapes: tuple[Dims, ...] = ()
    """By op: the extents of its first result."""


@dataclass(frozen=True)
class Manifest:
    """All that binding, error texts and reports need to know of a program beside its code."""

    feeds: tuple[TypeText, ...]
    results: tuple[TypeText, ...]
    fetches: tuple[int, ...]
    """By fetch of the step: its result's number."""
    slots: tuple[SlotText, ...]
    constants: tuple[np.ndarray, ...]
    imports: tuple[str, ...]
    """Names that the code takes from outside."""
    checks: tuple[CheckText, ...]
    failures: tuple[FailureText, ...]
    hosts: tuple[HostOp, ...]
    arena: str
    """Bytes of the arena, an extent."""
    cost: str
    """Estimated nanoseconds, an extent."""
    counts: dict[str, int]
    """For reports: kernels by kind, nodes, and the like."""
    kernels: tuple[KernelText, ...] = ()
    """For reports: all kernels in order, those that Python runs included."""
    stacks: int = 0
    """How many results of loops are rows stacked up."""
    traced: bool = False
    """Whether the code writes down when its kernels run, and must be given a trace buffer."""

    def to_json(self) -> str:
        """The manifest as text; `from_json` gives an equal one."""
        return json.dumps(encode(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote; ValueError for anything else."""
        return cls._read(text, b"")

    def pack(self) -> tuple[bytes, bytes]:
        """The manifest as text, and the data of its larger arrays one after another; `unpack` gives an equal one."""
        data = _Data()
        text = json.dumps(encode(self, data), separators=(",", ":"), sort_keys=True)
        return text.encode(), b"".join(data.parts)

    @classmethod
    def unpack(cls, text: bytes, data: bytes | memoryview) -> Manifest:
        """Read what `pack` made; ValueError for anything else."""
        return cls._read(text.decode(), data)

    @classmethod
    def _read(cls, text: str, data: bytes | memoryview) -> Manifest:
        try:
            found = decode(json.loads(text), data)
        except (KeyError, TypeError, IndexError, SyntaxError) as error:
            raise ValueError(f"no manifest: {error!r}") from None
        if not isinstance(found, cls) or not all(0 <= number < len(found.results) for number in found.fetches):
            raise ValueError("no manifest")
        if not 0 <= found.stacks <= MOST_STACKS:
            raise ValueError("no manifest")
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


_RECORDS: dict[str, Any] = {
    cls.__name__: cls for cls in (TypeText, SlotText, CheckText, FailureText, HostOp, StoreText, KernelText, Manifest)
}  # fmt: skip


_KINDS = {"str": str, "int": int, "bool": bool, "Dims": tuple, "np.ndarray": np.ndarray, **_RECORDS}


def _field_kinds(record: Any) -> list[tuple[type, type | None]]:
    """By field of a record: what it is, and what the elements are where it is a tuple."""
    found: list[tuple[type, type | None]] = []
    for each in fields(record):
        head, _, inner = str(each.type).removesuffix("]").partition("[")
        if head == "tuple":
            found.append((tuple, _KINDS[inner.removesuffix(", ...")]))
        else:
            found.append((dict, None) if head == "dict" else (_KINDS[head], str if head == "Dims" else None))
    return found


_FIELDS = {name: _field_kinds(record) for name, record in _RECORDS.items()}

MOST_STACKS = 1 << 20
"""Of a manifest that is to be believed."""

DATA_BYTES = 256
"""Arrays larger than this stand beside the text where there is a place for them."""


class _Data:
    """Arrays' bytes, put one after another."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._end = 0

    def add(self, part: bytes) -> tuple[int, int]:
        self.parts.append(part)
        self._end += len(part)
        return self._end - len(part), len(part)


def encode(value: Any, data: _Data | None = None) -> Any:
    """A value of the kinds that attrs have, as what JSON can hold; TypeError for another kind."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, complex):
        return ["complex", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes):
        return ["bytes", base64.b85encode(value).decode()]
    if isinstance(value, DType):
        return ["dtype", value.name]
    if isinstance(value, (tuple, list)):
        return ["tuple", *(encode(each, data) for each in value)]
    if isinstance(value, dict):
        return ["dict", *([encode(key, data), encode(each, data)] for key, each in value.items())]
    if isinstance(value, np.ndarray):
        return _encode_array(value, data)
    if type(value).__name__ in _RECORDS:
        return [type(value).__name__, *(encode(getattr(value, field.name), data) for field in fields(value))]
    raise TypeError(f"a {type(value).__name__} can't be part of a manifest")


def _encode_array(array: np.ndarray, data: _Data | None) -> Any:
    head = [dtypes.as_dtype(array.dtype).name, list(array.shape)]
    if array.dtype == object:
        return ["array", *head, encode(list(array.ravel()))]
    if data is None or array.nbytes <= DATA_BYTES:
        return ["array", *head, encode(array.tobytes())]
    return ["data", *head, *data.add(array.tobytes())]


def decode(value: Any, data: bytes | memoryview = b"") -> Any:
    """What `encode` made, back again; ValueError or TypeError for anything else."""
    if not isinstance(value, list):
        return value
    kind, *rest = value
    if kind == "float":
        return float.fromhex(rest[0])
    if kind == "complex":
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    if kind == "bytes":
        return base64.b85decode(rest[0])
    if kind == "dtype":
        return dtypes.as_dtype(rest[0])
    if kind == "tuple":
        return tuple([decode(each, data) if type(each) is list else each for each in rest])
    if kind == "dict":
        return {decode(key, data): decode(each, data) for key, each in rest}
    if kind == "array":
        return _array(dtypes.as_dtype(rest[0]), tuple(rest[1]), decode(rest[2]))
    if kind == "data":
        return _array(dtypes.as_dtype(rest[0]), tuple(rest[1]), data[rest[2] : rest[2] + rest[3]])
    if kind in _RECORDS:
        return _record(kind, [decode(each, data) if type(each) is list else each for each in rest])
    raise ValueError(f"no value: {kind!r}")


def _record(kind: str, values: list[Any]) -> Any:
    for value, (whole, element) in zip(values, _FIELDS[kind], strict=False):
        elements: Any = () if element is None else value
        if type(value) is not whole or any(type(each) is not element for each in elements):
            raise ValueError(f"a {kind} has no {value!r:.60}")
    return _RECORDS[kind](*values)


def _array(dtype: DType, shape: tuple[int, ...], data: Any) -> np.ndarray:
    if dtype.itemsize == 0:
        flat = np.empty(len(data), object)
        flat[:] = data
    else:
        flat = np.frombuffer(data, dtype.np).copy()
    found = flat.reshape(shape)
    found.flags.writeable = False
    return found
