"""The Python object that is a compiled step: calls go straight to native code.

A `StepCallable` is born *cold*: its native pointer is null, so CPython calls `__call__`, which asks `slow`. `attach`
binds it to an executable; from then on a call is one jump to the entry. Further executables attached to it (other
ranks, extent 1) are tried in turn when a feed does not fit the ones before.

What the callable is given, and native code calls:

    slow(reason, args, names) -> result
        Everything native code does not take. `reason & 255` is one of abi.COLD ... abi.BUSY, `reason >> 8` the number
        of the feed, check or slot. `args` is a tuple of the positional values followed by those of the keywords in
        `names` (a tuple, or None). It converts, compiles, waits or raises, then calls the step again by
        `reenter(callable, args)`, and returns the step's result.
    fail(failure, at, value, bound, *more)
        A kernel's check failed: `failure` counts through `manifest.failures`. Must raise. Everything the step held has
        been released, the GIL is held. With failure -1 memory ran out, and `at` is Python's error, or None.
    hosts[k](*arrays) -> tuple of arrays
        Runs host op k of the manifest. Gets the op's inputs as arrays (fed arrays and constants are the objects
        themselves: not to be changed), returns all outputs as C-contiguous, aligned arrays of the exact dtype object
        and of the manifest's rank and static extents; arrays of its own, no views of the inputs, as they may be
        returned to the user. What it raises is what the step raises.

Native code keeps plain pointers to all of these; contexts keep them alive, and a callable keeps its contexts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stepjit_runtime import abi, forking

if TYPE_CHECKING:
    from stepjit_runtime.executable import Context

_Slow = Callable[[int, tuple[Any, ...], "tuple[str, ...] | None"], Any]

_LOCK = forking.lock()
_HAVE_VECTORCALL = 1 << 11
_BASETYPE = 1 << 10
_TYPE_FLAGS_OFFSET = 168
_PYSSIZET, _READONLY = 19, 1
_TP_MEMBERS = 72


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]  # fmt: skip


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int), ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]  # fmt: skip


def _native_base() -> type:
    """A type whose instances have room for the vectorcall pointer and the context's address.

    It has no collector support of its own: the Python class derived from it brings that, with `__dict__` and weak
    references.
    """
    offset = abi.INSTANCE_VECTORCALL
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _PYSSIZET, offset, _READONLY, None), _Member())
    slots = (_Slot * 2)(_Slot(_TP_MEMBERS, ctypes.addressof(members)), _Slot(0, None))
    spec = _Spec(b"stepjit_runtime.NativeCallable", abi.INSTANCE_BYTES, 0, _BASETYPE, slots)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_Spec))(("PyType_FromSpec", ctypes.pythonapi))
    made: type = make(ctypes.byref(spec))
    # CPython before 3.12 keeps pointers into the member table.
    _KEEP.extend((members, slots, spec))
    return made


_KEEP: list[Any] = []
_Native: Any = _native_base()


class StepCallable(_Native):  # type: ignore[misc]
    """A step that can be called with its feeds; see the module's docstring."""

    __slots__ = ("__dict__", "__weakref__", "_contexts", "explainer", "slow")

    recipe: Any = None
    """How it was made: `describe()` says it in a line, `reduce()` is what is pickled."""

    def __init__(self, slow: _Slow, explainer: Callable[[], Any] | None = None) -> None:
        self.slow, self.explainer = slow, explainer
        self._contexts: list[Context] = []

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Reached by calls only while no executable is attached."""
        return self.slow(abi.COLD, args + tuple(named.values()), tuple(named) or None)

    @property
    def contexts(self) -> Sequence[Context]:
        """What calls go through, in the order in which they are tried."""
        return tuple(self._contexts)

    def explain(self) -> Any:
        """What was compiled for this step so far: a record to read fields of or to print."""
        if self.explainer is None:
            raise TypeError("nothing is known of this step beside its code")
        return self.explainer()

    def __repr__(self) -> str:
        return object.__repr__(self) if self.recipe is None else self.recipe.describe()

    def __copy__(self) -> StepCallable:
        return self

    def __reduce__(self) -> Any:
        if self.recipe is None:
            raise TypeError("this step can't be pickled: it is not known how it was made")
        return self.recipe.reduce()

    def attach(self, context: Context) -> None:
        """Try `context` for calls that none before it takes."""
        with _LOCK:
            context.unlink()
            # Never dropped before the callable is: another thread may be inside any of them.
            self._contexts.append(context)
            if len(self._contexts) > 1:
                self._contexts[-2].hand_on_to(context)
                return
            _word(id(self) + abi.INSTANCE_CONTEXT).value = context.address
            _word(id(self) + abi.INSTANCE_VECTORCALL).value = context.executable.linked.step

    def detach(self) -> None:
        """Be cold again: all calls go to `slow`, until the next `attach` starts a new list."""
        with _LOCK:
            _word(id(self) + abi.INSTANCE_VECTORCALL).value = None
            self._retired = {**getattr(self, "_retired", {}), **{id(context): context for context in self._contexts}}
            self._contexts = []


def _word(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(address)


def _allow_vectorcall(cls: type) -> None:
    """Set the flag that says that instances may be called by their pointer.

    A class with `__call__` does not inherit it, since `__call__` and the pointer should agree. Here they do: CPython
    uses `__call__` just where the pointer is null.
    """
    flags = ctypes.c_ulong.from_address(id(cls) + _TYPE_FLAGS_OFFSET)
    if flags.value != cls.__flags__:
        raise ImportError("this Python lays out its types in an unknown way")
    flags.value |= _HAVE_VECTORCALL


_allow_vectorcall(StepCallable)

_ENTRY = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.py_object, ctypes.POINTER(ctypes.py_object), ctypes.c_size_t, ctypes.c_void_p
)


def reenter(callable_: StepCallable, args: Sequence[Any]) -> Any:
    """Call native code and nothing else: the step's result, or the reason of the refusal, an int.

    Elements of string feeds must be bytes. No step's result is an int (numpy's scalars are none).
    """
    pointer = _word(id(callable_) + abi.INSTANCE_VECTORCALL).value
    if pointer is None:
        return abi.COLD
    values = (ctypes.py_object * max(1, len(args)))(*args)
    return _ENTRY(pointer)(callable_, values, len(args) | abi.REENTRY, None)
