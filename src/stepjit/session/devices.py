"""The devices of a session and which op goes where.

There is one processor behind all of them: a device decides nothing but whether an op may run, and under which name it
is reported.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stepjit.framework.device import DeviceSpec
from stepjit.session.config import SessionConfig
from stepjit.session.failures import op_error
from stepjit_runtime.errors import OpFailure

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph

_PREFIX = "/job:localhost/replica:0/task:0"
_GRAPHICS = ("GPU", "XLA_GPU")


class Device:
    """A device of a session, as `list_devices` tells of it."""

    __slots__ = ("_device_type", "_incarnation", "_memory_limit_bytes", "_name")

    def __init__(self, name: str, device_type: str, memory_limit_bytes: int, incarnation: int) -> None:
        self._name, self._device_type = name, device_type
        self._memory_limit_bytes, self._incarnation = memory_limit_bytes, incarnation

    @property
    def name(self) -> str:
        """The full name: `/job:localhost/replica:0/task:0/device:CPU:0`."""
        return self._name

    @property
    def device_type(self) -> str:
        """`CPU`."""
        return self._device_type

    @property
    def memory_limit_bytes(self) -> int:
        """The machine's memory."""
        return self._memory_limit_bytes

    @property
    def incarnation(self) -> int:
        """A number that differs from session to session."""
        return self._incarnation

    def __repr__(self) -> str:
        fields = self._name, self._device_type, self._memory_limit_bytes, self._incarnation
        return f"_DeviceAttributes({', '.join(map(str, fields))})"


class Placement:
    """Assigns ops to a session's devices, by their device strings."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self.names = [f"{_PREFIX}/device:CPU:{number}" for number in range(config.cpus)]
        self._specs = [DeviceSpec.from_string(name) for name in self.names]
        self._found: dict[str, str] = {"": self.names[0]}
        self._placed = 0
        self._logged = 0
        self._devices: list[Device] = []

    def devices(self) -> list[Device]:
        """The session's devices; the same ones at each call."""
        if not self._devices:
            memory = _machine_memory()
            # Not from the module's generator: a program's own seeds must not make two sessions alike.
            incarnations = random.SystemRandom()
            self._devices = [Device(name, "CPU", memory, incarnations.getrandbits(62) + 1) for name in self.names]
        return list(self._devices)

    def device_of(self, op: Any) -> str:
        """The full name of the device an op runs on; InvalidArgumentError when the session has none that fits."""
        text = op.device
        found = self._found.get(text)
        if found is None:
            found = self._found[text] = self._find(op, text)
        return found

    def _find(self, op: Any, text: str) -> str:
        try:
            wanted = DeviceSpec.from_string(text)
        except ValueError:
            raise op_error(op, OpFailure(f"Malformed device specification '{text}' of node {op.name}")) from None
        for name, spec in zip(self.names, self._specs, strict=True):
            if spec.make_merged_spec(wanted) == spec:
                return name
        if self._config.soft_placement:
            return self.names[0]
        hint = " There is no GPU support." if wanted.device_type in _GRAPHICS else ""
        raise op_error(
            op,
            OpFailure(
                f"Cannot assign a device for operation {op.name}: it was explicitly assigned to {text} but available "
                f"devices are [ {', '.join(self.names)} ]. Make sure the device specification refers to a valid "
                f"device, or set `allow_soft_placement` in the session's config.{hint}"
            ),
        )

    def place(self, graph: Graph, ops: Sequence[Any]) -> None:
        """Check that the ops of a step have devices, and all others of the graph too unless placement is pruned.

        Raises InvalidArgumentError, naming the op and the line that made it.
        """
        all_of_it = not self._config.pruned_placement
        new = graph.ops[self._placed :] if all_of_it else ops
        for op in with_regions(new):
            if op.device:
                self.device_of(op)
        if all_of_it:
            self._placed += len(new)
        if self._config.log_placement:
            self._log(graph)

    def _log(self, graph: Graph) -> None:
        """Tell where the ops went that were made since the last time."""
        new = graph.ops[self._logged :]
        self._logged += len(new)
        if new:
            lines = [f"{op.name}: ({op.type}): {self._told(op)}\n" for op in with_regions(new)]
            print("".join(lines), end="", file=sys.stderr, flush=True)

    def _told(self, op: Any) -> str:
        # With pruned placement there may be ops without a device that fits.
        return self._found.get(op.device) or op.device


def with_regions(ops: Iterable[Any]) -> Iterator[Any]:
    """The ops, and those in the branches and loop bodies that they hold."""
    pending = [iter(ops)]
    while pending:
        for op in pending[-1]:
            yield op
            held = [each for value in op.attrs.values() for each in (value if type(value) is tuple else (value,))]
            regions = [each.ops for each in held if getattr(each, "is_function", False)]
            if regions:
                pending.extend(map(iter, regions))
                break
        else:
            pending.pop()


def _machine_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
