"""Programs bound to a session: the memory blocks native code finds its surroundings in, and what keeps them alive."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjit_runtime import abi
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import OpFailure, exception_type_from_error_code
from stepjit_runtime.link import Linked
from stepjit_runtime.manifest import Manifest
from stepjit_runtime.random_stream import RandomStream
from stepjit_runtime.resources import Record, Resources, Variable, layout_number
from stepjit_runtime.trace import TraceBuffer


@dataclass(frozen=True)
class Program:
    """What is compiled, stored and shared between sessions."""

    object_code: bytes
    manifest: Manifest
    stored: bool = False
    """Whether it was read from disk."""

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return len(self.object_code) + sum(array.nbytes for array in self.manifest.constants) + 4096


@dataclass(frozen=True)
class Layout:
    """How a callable's results are returned: `kind` is abi.PACK_*, `indices` number the results, -1 stands for None."""

    kind: int
    indices: tuple[int, ...] = ()


class Executable:
    """A program's code with the state of one session that it works on.

    `variables` are the session's by slot, None for slots of other kinds; `streams` are its streams of random numbers.
    """

    __slots__ = (
        "__weakref__",
        "_array_pointers",
        "_blocks",
        "_data_pointers",
        "_kept",
        "_layouts",
        "_slots",
        "constants",
        "linked",
        "manifest",
        "poll",
        "resources",
        "streams",
        "variables",
    )  # fmt: skip

    def __init__(
        self, linked: Linked, manifest: Manifest, resources: Resources, variables: Sequence[Variable | None] = (),
        streams: Mapping[int, RandomStream] = {},
    ) -> None:  # fmt: skip
        if len(variables) != len(manifest.slots):
            raise ValueError(f"the program has {len(manifest.slots)} slots, not {len(variables)}")
        self.linked, self.manifest, self.resources = linked, manifest, resources
        self.variables = tuple(variables)
        self.constants = tuple(_canonical(array) for array in manifest.constants)
        self.streams = dict(streams)
        records = {k: variable.record for k, variable in enumerate(variables) if variable is not None}
        records |= {k: stream.record for k, stream in self.streams.items()}
        self._slots = _words([records[k].address if k in records else 0 for k in range(max(records, default=-1) + 1)])
        self._layouts = _words([_layout_of(slot) for slot in manifest.slots])
        self._data_pointers = _words([array.ctypes.data for array in self.constants])
        self._array_pointers = _words([id(array) for array in self.constants])
        self.poll = _poll_of(resources)
        self._blocks = _words([0] * (1 + manifest.stacks))
        weakref.finalize(self, _free_blocks, self._blocks).atexit = False
        self._kept = _words([0] * (abi.KEPT * len(manifest.results)))
        weakref.finalize(self, _drop, self._kept).atexit = False

    @property
    def arena_bytes(self) -> int:
        """Bytes of arenas and loops' rows that are kept for the next calls."""
        return sum(size for head in self._blocks for _, size in _listed(head))

    def context(
        self,
        slow: Callable[..., Any],
        fail: Callable[..., Any],
        hosts: Sequence[Callable[..., Any]] = (),
        layout: Layout | None = None,
        trace: TraceBuffer | None = None,
    ) -> Context:
        """What a callable needs to run this; the protocol of the Python callables is told in `step_callable`.

        By default the results are the step's fetches as a list. A traced program needs a buffer to write to.
        """
        return Context(self, slow, fail, hosts, layout or Layout(abi.PACK_LIST, self.manifest.fetches), trace)


class Context:
    """One callable's view of an executable; keeps alive all that native code reaches through it."""

    __slots__ = ("_hosts", "_indices", "_keep", "_record", "executable", "layout", "next")

    def __init__(
        self,
        executable: Executable,
        slow: Callable[..., Any],
        fail: Callable[..., Any],
        hosts: Sequence[Callable[..., Any]],
        layout: Layout,
        trace: TraceBuffer | None = None,
    ) -> None:
        if executable.manifest.traced and trace is None:
            raise ValueError("a traced program needs a trace buffer")
        if len(hosts) != len(executable.manifest.hosts):
            raise ValueError(f"the program has {len(executable.manifest.hosts)} host ops, not {len(hosts)}")
        count = len(executable.manifest.results)
        if not all(-1 <= index < count for index in layout.indices):
            raise ValueError(f"the program has {count} results: {layout}")
        if layout.kind == abi.PACK_SINGLE and len(layout.indices) != 1:
            raise ValueError(f"a single result has one index: {layout}")
        if layout.kind == abi.PACK_SINGLE and count == 1 and layout.indices != (0,):
            layout = Layout(abi.PACK_NONE)  # the entry takes a lone result for the one that is meant
        self.executable, self.layout = executable, layout
        self.next: Context | None = None
        self._keep = (slow, fail, trace, *hosts)
        self._hosts, self._indices = _words([id(host) for host in hosts]), _words(layout.indices)
        self._record = Record(abi.CONTEXT)
        for name, value in {
            "slow": id(slow), "fail": id(fail), "kind": layout.kind, "count": len(layout.indices),
            "indices": ctypes.addressof(self._indices), "slots": ctypes.addressof(executable._slots),
            "layouts": ctypes.addressof(executable._layouts), "session": executable.resources.record.address,
            "constants": ctypes.addressof(executable._data_pointers),
            "constant_arrays": ctypes.addressof(executable._array_pointers), "hosts": ctypes.addressof(self._hosts),
            "blocks": ctypes.addressof(executable._blocks), "trace": trace.address if trace else 0,
            "poll": id(executable.poll), "kept": ctypes.addressof(executable._kept),
        }.items():  # fmt: skip
            self._record[name] = value

    @property
    def address(self) -> int:
        return self._record.address

    def unlink(self) -> None:
        """Hand calls whose feeds don't fit to Python."""
        self._record["next_entry"] = 0
        self._record["next_context"] = 0
        self.next = None

    def hand_on_to(self, other: Context) -> None:
        """Let calls whose feeds don't fit go to another variant."""
        self.next = other
        # In this order: another thread may look between the two.
        self._record["next_context"] = other.address
        self._record["next_entry"] = other.executable.linked.run


def _poll_of(resources: Resources) -> Callable[[], None]:
    """What loops call now and then: raises the session's error when the step is to end; signals' handlers run too."""

    def poll() -> None:
        try:
            resources.cancellation.check()
        except OpFailure as failure:
            kind: Any = exception_type_from_error_code(failure.code)
            raise kind(None, None, failure.message) from None

    return poll


def _layout_of(slot: Any) -> int:
    if slot.kind != "variable" or not all(text.isdigit() for text in slot.dims):
        return 0
    return layout_number(as_dtype(slot.dtype), tuple(map(int, slot.dims)))


def _canonical(array: np.ndarray) -> np.ndarray:
    """A constant of the very dtype object that native code and host ops look for."""
    wanted = as_dtype(array.dtype).np
    return array if array.dtype is wanted and array.flags.c_contiguous else np.ascontiguousarray(array).view(wanted)


def _words(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(values)))(*values)


def _listed(at: int) -> list[tuple[int, int]]:
    """(address, size) of the blocks of a free list."""
    found = []
    while at:
        following, size = (ctypes.c_uint64 * 2).from_address(at)
        found.append((at, size))
        at = following
    return found


def _drop(objects: Any) -> None:
    for k, each in enumerate(objects):
        objects[k] = 0
        ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(each))


def _free_blocks(heads: Any) -> None:
    free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(("free", ctypes.CDLL(None)))
    for k, head in enumerate(heads):
        heads[k] = 0
        for address, _ in _listed(head):
            free(address)
