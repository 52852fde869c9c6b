"""Links object code into the process: names of the CPython and numpy APIs, of libc, libm and BLAS become addresses.

Where `elf` knows the machine it does the work, and LLVM is not even loaded; else LLVM's JIT does.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from stepjit_runtime import dtypes, elf, forking, support

NUMPY_API = {"PyArray_Scalar": 60, "PyArray_NewCopy": 85, "PyArray_Empty": 184}
"""Places in numpy's C-API table, fixed by numpy's ABI."""

LIBM_SYMBOLS = tuple(
    name + suffix
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "erf", "erfc",
        "exp", "exp2", "expm1", "fabs", "floor", "fma", "fmax", "fmin", "fmod", "ldexp", "lgamma", "log", "log10",
        "log1p", "log2", "nearbyint", "pow", "rint", "round", "roundeven", "sin", "sinh", "sqrt", "tan", "tanh",
        "tgamma", "trunc",
    )
    for suffix in ("", "f")
)  # fmt: skip
LIBC_SYMBOLS = (
    "aligned_alloc", "calloc", "clock_gettime", "free", "malloc", "memcmp", "memcpy", "memmove", "memset", "realloc",
)  # fmt: skip
IMPLIED = ("memcpy", "memmove", "memset", "fmod", "fmodf")
"""Calls that LLVM itself writes, though no module names them."""

LINKS_PER_ENGINE = 32

_LOCK = forking.whole_lock()
_numbers = itertools.count()
_engine: _Engine | None = None


class LinkError(Exception):
    """Object code can't be linked here: it is damaged, or needs a name that this process doesn't have."""


class _Engine:
    """One of LLVM's JITs: each link leaves some 9 kB behind in it, so a new one takes over after LINKS_PER_ENGINE."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic")
        self.jit = llvm.create_lljit_compiler(machine, use_jit_link=True, suppress_errors=True)
        self.links = 0


class Linked:
    """Code in memory, freed with the last reference to this object: addresses of `step` and `run`."""

    __slots__ = ("__weakref__", "_keep", "run", "size", "step")

    def __init__(self, symbols: Any, size: int, keep: list[Any]) -> None:
        self._keep = keep
        self.step: int = symbols["step"]
        """Address of the vectorcall function."""
        self.run: int = symbols["run"]
        """Address of the same with the context as fifth argument, for variants to hand on to."""
        self.size = size

    def __del__(self) -> None:
        while self._keep:  # in order: code goes before its engine
            del self._keep[0]


def link(object_code: bytes, imports: Sequence[str], stored: bool = False) -> Linked:
    """Link object code that needs the names in `imports`; LinkError when one is missing or it is no such code.

    Where the own loader works, code that was `stored` on disk is for it alone: LLVM ends the process on some damage.
    """
    for name in imports:
        address(name)
    if not _is_object(object_code):
        raise LinkError("this is no object code of this kind of machine")
    image = _image(object_code, stored)
    try:
        if image is not None:
            return Linked(image.symbols, len(object_code), [image])
        tracker, engine = _jitted(object_code, imports)
        return Linked(tracker, len(object_code), [tracker, engine])
    except KeyError as error:
        raise LinkError(f"the object code does not define {error}") from None


def _image(object_code: bytes, stored: bool) -> elf.Image | None:
    if not elf.is_known():
        return None
    try:
        return elf.load(object_code, address)
    except elf.Unsupported as error:
        if stored:
            raise LinkError(str(error)) from None
        return None
    except elf.Damaged as error:
        raise LinkError(str(error)) from None


def _jitted(object_code: bytes, imports: Sequence[str]) -> tuple[Any, _Engine]:
    import llvmlite.binding as llvm

    with _LOCK:
        library = llvm.JITLibraryBuilder().add_object_img(object_code).export_symbol("step").export_symbol("run")
        for name in (*imports, *IMPLIED):
            library.import_symbol(name, address(name))
        try:
            return _add(library)
        except RuntimeError as error:
            raise LinkError(str(error).strip()) from None


def _add(library: Any) -> tuple[Any, _Engine]:
    global _engine
    if _engine is None or _engine.links >= LINKS_PER_ENGINE:
        _engine = _Engine()
    _engine.links += 1
    return library.link(_engine.jit, f"code{next(_numbers)}"), _engine


def address(name: str) -> int:
    """The address behind an imported name; LinkError when there is none."""
    found = _known().get(name)
    if found is None:
        for find in (_dtype, _support, _library, _blas):
            found = find(name)
            if found:
                break
    if not found:
        raise LinkError(f"the symbol {name!r} is not found in this process")
    return found


def provide(addresses: Mapping[str, int]) -> None:
    """Add names that object code may import."""
    _known().update(addresses)


def _is_object(code: bytes) -> bool:
    # LLVM ends the process on some garbage; the header tells garbage from code.
    return len(code) > 64 and (code[:4] == b"\x7fELF" or code[:4] == b"\xcf\xfa\xed\xfe" or code[:2] == b"\x64\x86")


@lru_cache(maxsize=1)
def _known() -> dict[str, int]:
    known = {
        "PyArray_Type": id(np.ndarray), "PyBool_False": id(False), "PyBool_True": id(True), "PyFloat_Type": id(float),
        "PyLong_Type": id(int), "Py_None": id(None), "PyExc_SystemError": id(SystemError),
        "PyExc_MemoryError": id(MemoryError),
    }  # fmt: skip
    table = _numpy_table()
    return known | {name: table[place] for name, place in NUMPY_API.items()}


def _numpy_table() -> Any:
    try:
        from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]
    except ImportError:  # numpy 1
        from numpy.core import _multiarray_umath as umath  # type: ignore[no-redef]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(_address(pointer))
    return ctypes.cast(get(umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))


def _dtype(name: str) -> int | None:
    """`descr_f32`: numpy's dtype object; `scalar_f32`: its scalar type."""
    kind, _, code = name.partition("_")
    if kind not in ("descr", "scalar"):
        return None
    try:
        dtype = dtypes.as_dtype(code)
    except (TypeError, ValueError, SyntaxError):  # numpy parses what it does not know
        return None
    return id(dtype.np) if kind == "descr" else id(dtype.np.type)


def _support(name: str) -> int | None:
    if not name.startswith("sj_"):
        return None
    with _LOCK:
        return _support_code()[0].get(name)


def provide_support(object_code: bytes) -> None:
    """Use code of the helpers that `support_object` made before, if none is in use yet."""
    global _support_object
    with _LOCK:
        _support_object = _support_object or object_code


def has_support() -> bool:
    """Whether the helpers' code is here already."""
    return bool(_support_object) or _support_code.cache_info().currsize > 0


_support_object = b""


def support_object() -> bytes:
    """Object code of the helpers that steps call."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(support.text())
    # Cold code for the most part: quick to make counts for more.
    target = llvm.Target.from_default_triple().create_target_machine(opt=0, reloc="pic", codemodel="default")
    module.triple, module.data_layout = target.triple, str(target.target_data)
    code: bytes = target.emit_object(module)
    module.close()
    return code


@lru_cache(maxsize=1)
def _support_code() -> tuple[Mapping[str, int], Any]:
    """Addresses of the helpers, and what keeps them in memory."""
    if elf.is_known():
        image = _helpers_image()
        return image.symbols, image
    code = _support_object or support_object()
    import llvmlite.binding as llvm

    engine = _Engine()  # of its own: it stays to the end
    library = llvm.JITLibraryBuilder().add_object_img(code)
    for name in (*support.imports(), *IMPLIED):
        library.import_symbol(name, address(name))
    for name in support.exports():
        library.export_symbol(name)
    tracker = library.link(engine.jit, "support")
    return {name: tracker[name] for name in support.exports()}, (tracker, engine)


def _helpers_image() -> elf.Image:
    if _support_object:
        with suppress(elf.Unsupported, elf.Damaged, LinkError):
            return elf.load(_support_object, address)
    return elf.load(support_object(), address)


def _library(name: str) -> int | None:
    if name.startswith(("Py", "_Py")):
        return _symbol_of(ctypes.pythonapi, name)
    if name in LIBC_SYMBOLS or name in LIBM_SYMBOLS:
        return _symbol_of(_process(), name) or _symbol_of(_libm(), name)
    return None


def _blas(name: str) -> int | None:
    try:
        from stepjit_runtime import blas
    except ImportError:
        return None
    found: int | None = blas.addresses().get(name)
    return found


@lru_cache(maxsize=1)
def _process() -> Any:
    return ctypes.CDLL(None)


@lru_cache(maxsize=1)
def _libm() -> Any:
    import ctypes.util

    return ctypes.CDLL(ctypes.util.find_library("m"))


def _symbol_of(library: Any, name: str) -> int | None:
    try:
        return _address(getattr(library, name))
    except AttributeError:
        return None


def _address(function: Callable[..., Any]) -> int:
    found = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert found
    return found
