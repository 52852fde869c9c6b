"""TensorFlow's dtypes: names, wire numbers, numpy counterparts and the short codes that IR text uses."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class DType:
    """An element type; one object per type, compared by identity, so it may key a dict."""

    __slots__ = ("_ref", "as_datatype_enum", "as_numpy_dtype", "base_dtype", "code", "itemsize", "kind", "name", "np")

    name: str
    """TF's name, such as `float32` or `float32_ref`."""
    code: str
    """The short name in IR text, such as `f32`."""
    kind: str
    """`f` float, `i` signed, `u` unsigned, `b` bool, `c` complex, `s` string, `q` quantised, `o` opaque."""
    np: np.dtype[Any]
    as_datatype_enum: int
    base_dtype: DType

    def __init__(self, name: str, code: str, kind: str, scalar: Any, number: int, base: DType | None = None) -> None:
        self.name, self.code, self.kind = name, code, kind
        self.as_numpy_dtype = scalar
        self.np = np.dtype(scalar)
        self.itemsize = 0 if kind in "so" else self.np.itemsize
        self.as_datatype_enum = number
        self.base_dtype = base or self
        self._ref: DType | None = self if base else None

    @property
    def _is_ref_dtype(self) -> bool:
        return self.base_dtype is not self

    @property
    def _as_ref(self) -> DType:
        assert self._ref is not None
        return self._ref

    @property
    def real_dtype(self) -> DType:
        """The dtype of the real part: float32 for complex64, itself for a real dtype."""
        return {complex64: float32, complex128: float64}.get(self.base_dtype, self.base_dtype)

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_unsigned(self) -> bool:
        return self.kind == "u"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_quantized(self) -> bool:
        return self.kind == "q"

    @property
    def is_numpy_compatible(self) -> bool:
        return self.kind != "o"

    @property
    def size(self) -> int:
        """Bytes of one element; 1 for strings and handles, as in TF."""
        return self.itemsize or 1

    @property
    def min(self) -> Any:
        return self._limit("min")

    @property
    def max(self) -> Any:
        return self._limit("max")

    @property
    def limits(self) -> tuple[Any, Any]:
        return self.min, self.max

    def _limit(self, which: str) -> Any:
        if self.kind in "iuq":
            return getattr(np.iinfo(self.np), which)
        if self.kind == "f":
            return getattr(ml_dtypes.finfo(self.np), which)
        if self.kind == "b":
            return which == "max"
        raise TypeError(f"Cannot find {which}imum value of {self!r}.")

    def is_compatible_with(self, other: Any) -> bool:
        """Whether a tensor of dtype `other` may stand where this dtype is asked for."""
        return self.base_dtype is as_dtype(other).base_dtype

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        if other is None:
            return False
        try:
            return self is as_dtype(other)
        except TypeError:
            return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self.as_datatype_enum

    def __int__(self) -> int:
        return self.as_datatype_enum

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return as_dtype, (self.name,)


def _dtype(name: str, code: str, kind: str, scalar: Any, number: int) -> DType:
    base = DType(name, code, kind, scalar, number)
    base._ref = DType(name + "_ref", code + "&", kind, scalar, number + 100, base)
    return base


float32 = _dtype("float32", "f32", "f", np.float32, 1)
float64 = _dtype("float64", "f64", "f", np.float64, 2)
int32 = _dtype("int32", "i32", "i", np.int32, 3)
uint8 = _dtype("uint8", "u8", "u", np.uint8, 4)
int16 = _dtype("int16", "i16", "i", np.int16, 5)
int8 = _dtype("int8", "i8", "i", np.int8, 6)
string = _dtype("string", "str", "s", np.object_, 7)
complex64 = _dtype("complex64", "c64", "c", np.complex64, 8)
int64 = _dtype("int64", "i64", "i", np.int64, 9)
bool_ = _dtype("bool", "bool", "b", np.bool_, 10)
qint8 = _dtype("qint8", "qi8", "q", np.int8, 11)
quint8 = _dtype("quint8", "qu8", "q", np.uint8, 12)
qint32 = _dtype("qint32", "qi32", "q", np.int32, 13)
bfloat16 = _dtype("bfloat16", "bf16", "f", ml_dtypes.bfloat16, 14)
qint16 = _dtype("qint16", "qi16", "q", np.int16, 15)
quint16 = _dtype("quint16", "qu16", "q", np.uint16, 16)
uint16 = _dtype("uint16", "u16", "u", np.uint16, 17)
complex128 = _dtype("complex128", "c128", "c", np.complex128, 18)
float16 = _dtype("float16", "f16", "f", np.float16, 19)
resource = _dtype("resource", "res", "o", np.object_, 20)
variant = _dtype("variant", "var", "o", np.object_, 21)
uint32 = _dtype("uint32", "u32", "u", np.uint32, 22)
uint64 = _dtype("uint64", "u64", "u", np.uint64, 23)

half, double = float16, float64

ALL = (
    float32, float64, int32, uint8, int16, int8, string, complex64, int64, bool_, qint8, quint8, qint32, bfloat16,
    qint16, quint16, uint16, complex128, float16, resource, variant, uint32, uint64,
)  # fmt: skip

_LOOKUP: dict[Any, DType] = {}
for _base in ALL:
    for _each in (_base, _base._as_ref):
        _LOOKUP[_each.name] = _LOOKUP[_each.as_datatype_enum] = _LOOKUP[_each.code] = _each
    if _base.kind not in "qo":
        _LOOKUP[_base.np] = _LOOKUP[_base.as_numpy_dtype] = _base
_LOOKUP |= {"half": float16, "float": float32, "double": float64, float: float32, int: int64, bool: bool_}
_LOOKUP |= {str: string, bytes: string, complex: complex128, object: string}


def as_dtype(value: Any) -> DType:
    """The DType for a DType, a name, a wire number, a numpy dtype or scalar type; TypeError for anything else."""
    if type(value) is DType:
        return value
    try:
        return _LOOKUP[value]
    except (KeyError, TypeError):
        pass
    if hasattr(value, "dtype") and type(value.dtype) is DType:
        return value.dtype
    try:
        found = np.dtype(value)
    except TypeError:
        raise TypeError(f"Cannot convert value {value!r} to a TensorFlow DType.") from None
    if found.kind in "SU":
        return string
    native = found.newbyteorder("=")
    if native in _LOOKUP:
        return _LOOKUP[native]
    raise TypeError(f"Cannot convert value {value!r} to a TensorFlow DType.")
