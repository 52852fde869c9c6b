"""Complex numbers and their parts; they run on the host."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import broadcasting, define, ufunc, unchanged

TO_REAL = "T: type in complex = complex64, Tout: type in float32|float64 = float32"

# --- Real, Imag, Conj ---
define("Real", "input: T -> output: Tout", TO_REAL, infer=unchanged, reference=ufunc(np.real))
define("Imag", "input: T -> output: Tout", TO_REAL, infer=unchanged, reference=ufunc(np.imag))
define("Conj", "input: T -> output: T", "T: type in complex = complex64", infer=unchanged, reference=ufunc(np.conj))

# --- Complex ---
define("Complex", "real: T, imag: T -> out: Tout",
       "T: type in float32|float64 = float32, Tout: type in complex = complex64",
       infer=broadcasting, reference=ufunc(lambda real, imag: _complex(real, imag)))  # fmt: skip


def _complex(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    # Built of its parts: real + 1j * imag would turn an infinite part into NaN in the other.
    shape = np.broadcast_shapes(real.shape, imag.shape)
    out = np.empty(shape, np.complex64 if real.dtype == np.float32 else np.complex128)
    out.real, out.imag = real, imag
    return out


# --- ComplexAbs, Angle ---
define("ComplexAbs", "x: T -> y: Tout", TO_REAL, infer=unchanged, reference=ufunc(np.abs))
define("Angle", "input: T -> output: Tout", TO_REAL, infer=unchanged, reference=ufunc(np.angle))
