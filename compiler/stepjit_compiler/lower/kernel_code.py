"""A lowered kernel: an internal function in IR, and what its caller hands to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Union

from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Ref


@dataclass(frozen=True)
class Failure:
    """How a failed check is told: the fields of a `lowering.Check`'s message are filled in; `origin` names the op."""

    message: str
    origin: int
    code: int = 3
    more: tuple[str, ...] = ()
    """What the numbers behind the first four are for: `place` (an extent of the indices, from the second on), `row`
    (the number there of a column) or `shape` (an extent)."""


class Stream(NamedTuple):
    """A stream of random numbers: the session's record (`abi.STREAM`) of that slot."""

    slot: int


@dataclass(frozen=True)
class KernelCode:
    """`define internal void|i1 @symbol(...)`.

    Parameters in order: where `failures` isn't empty, first `ptr %status`; then one `ptr` or `i64` per `params`.
    With failures the function returns i1 true after it stored i64 numbers at %status: that of the failure, {at}
    (flat position), {value}, {bound}, and the failure's `more`; i1 false when all is well. It has then written nothing.
    """

    symbol: str
    text: str
    params: tuple[Union[Ref, Dim, Stream], ...]
    """A Ref stands for the pointer to the value's buffer, a Stream for that to its record, a Dim for its number."""
    declarations: frozenset[str] = frozenset()
    """`declare ...` lines that the text needs."""
    failures: tuple[Failure, ...] = ()
    cost: Extent = 0
    """Estimated nanoseconds, over the symbols."""
    scratch: Extent = 0
    """Bytes of scratch memory; when not 0, the last parameter is a 64-byte aligned `ptr %scratch`."""

    @property
    def words(self) -> int:
        """How many numbers a failure may store."""
        return max((4 + len(failure.more) for failure in self.failures), default=0)
