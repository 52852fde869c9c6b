"""The BLAS that large matrix products call: the library in the scipy-openblas64 wheel, loaded when first asked for."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

SYMBOLS = ("scipy_cblas_sgemm64_", "scipy_cblas_dgemm64_")
"""What native code calls, with 64-bit integer arguments."""


@functools.cache
def library() -> ctypes.CDLL:
    """The library, set to the threads asked for; ImportError without the wheel, OSError when it can't be loaded."""
    import scipy_openblas64

    folder = Path(scipy_openblas64.get_lib_dir())
    name = scipy_openblas64.get_library()
    found = sorted(path for path in folder.glob(f"*{name}*") if path.suffix in (".so", ".dylib", ".dll"))
    if not found:
        raise OSError(f"no shared library in {folder}")
    loaded = ctypes.CDLL(str(found[0]))
    loaded.scipy_openblas_set_num_threads64_(ctypes.c_int(_threads))
    return loaded


_threads = 1


def set_threads(count: int) -> None:
    """Let BLAS use up to `count` threads in every call from now on, in the whole process; 1 until then."""
    global _threads
    if count < 1:
        raise ValueError(f"threads must be at least 1, not {count}")
    _threads = count
    if library.cache_info().currsize:
        library().scipy_openblas_set_num_threads64_(ctypes.c_int(count))


@functools.cache
def addresses() -> dict[str, int]:
    """The address of each of SYMBOLS, for linking."""
    loaded = library()
    return {symbol: ctypes.cast(getattr(loaded, symbol), ctypes.c_void_p).value or 0 for symbol in SYMBOLS}
