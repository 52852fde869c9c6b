"""Writes LLVM IR text, instruction by instruction, for scalars and vectors alike.

Arithmetic follows the operand's dtype (float, signed, unsigned, bool). Floating-point adds and multiplies may be
contracted to FMA; nothing else of fast-math is ever set.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

_LLVM = {
    "f16": "half", "f32": "float", "f64": "double", "bool": "i1",
    "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64", "u8": "i8", "u16": "i16", "u32": "i32", "u64": "i64",
}  # fmt: skip
_BITS = {"half": 16, "float": 32, "double": 64, "i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
_SAME_WIDTH_INT = {"half": dtypes.int16, "float": dtypes.int32, "double": dtypes.int64}
_PREDICATES = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}


class Value:
    """An SSA value or a constant: `ref` as written in IR, its dtype (None: a pointer), and its lanes (1: a scalar)."""

    __slots__ = ("dtype", "lanes", "ref")

    def __init__(self, ref: str, dtype: DType | None, lanes: int = 1) -> None:
        self.ref, self.dtype, self.lanes = ref, dtype, lanes

    @property
    def type(self) -> str:
        return llvm_type(self.dtype, self.lanes)

    def __repr__(self) -> str:
        return f"{self.type} {self.ref}"


def llvm_type(dtype: DType | None, lanes: int = 1) -> str:
    """The IR type of a register: a bool is an i1 there, and a byte in memory."""
    base = "ptr" if dtype is None else _LLVM[dtype.code]
    return base if lanes == 1 else f"<{lanes} x {base}>"


class Loop:
    """An open loop: `index` counts up by the step; `carried` are the values handed from turn to turn."""

    __slots__ = ("carried", "exit", "head", "index", "initial", "latch_line", "phi_lines", "preheader", "step", "stop")

    index: Value
    carried: list[Value]
    initial: tuple[Value, ...]
    stop: Value
    step: int
    phi_lines: int
    head: str
    exit: str
    preheader: str
    latch_line: str


class Builder:
    """Collects the body of one function; `intrinsics` and `externals` collect the declarations that it needs."""

    def __init__(self, prefix: str = "") -> None:
        self.lines: list[str] = []
        self.intrinsics: set[str] = set()
        self.externals: set[str] = set()
        self.block = "entry"
        self._count = 0
        self._prefix = prefix

    # --- names and blocks ---

    def name(self) -> str:
        self._count += 1
        return f"%{self._prefix}{self._count}"

    def label(self, hint: str = "b") -> str:
        self._count += 1
        return f"{hint}{self._prefix}{self._count}"

    def raw(self, line: str) -> None:
        self.lines.append("  " + line)

    def assign(self, code: str, dtype: DType | None, lanes: int = 1) -> Value:
        name = self.name()
        self.lines.append(f"  {name} = {code}")
        return Value(name, dtype, lanes)

    def start(self, label: str) -> None:
        """Open block `label`; the block before must have been ended."""
        self.lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        self.raw(f"br label %{label}")

    def branch_if(self, condition: Value, yes: str, no: str, unlikely: bool = False) -> None:
        hint = ", !prof !0" if unlikely else ""
        self.raw(f"br i1 {condition.ref}, label %{yes}, label %{no}{hint}")

    def phi(self, dtype: DType | None, lanes: int, incoming: Sequence[tuple[Value, str]]) -> Value:
        arms = ", ".join(f"[ {value.ref}, %{block} ]" for value, block in incoming)
        return self.assign(f"phi {llvm_type(dtype, lanes)} {arms}", dtype, lanes)

    # --- loops ---

    def begin_loop(self, start: Value, stop: Value, step: int = 1, carried: Sequence[Value] = ()) -> Loop:
        """A loop over i64 start, start+step, ... while index + step <= stop; may turn zero times."""
        loop = Loop()
        loop.head, loop.exit = self.label("loop"), self.label("done")
        loop.preheader, loop.initial, loop.step, loop.stop = self.block, tuple(carried), step, stop
        first = self.add(start, self.int64(step))
        enter = self.compare("le", first, stop)
        self.branch_if(enter, loop.head, loop.exit)
        self.start(loop.head)
        loop.phi_lines = len(self.lines)
        loop.index = Value(self.name(), dtypes.int64)
        loop.carried = [Value(self.name(), each.dtype, each.lanes) for each in carried]
        self.lines.extend([""] * (1 + len(carried)))
        loop.latch_line = start.ref
        return loop

    def end_loop(self, loop: Loop, carried: Sequence[Value] = ()) -> list[Value]:
        """Close the loop; returns the carried values after the last turn (the initial ones when there was none)."""
        following = self.assign(f"add nuw nsw i64 {loop.index.ref}, {loop.step}", dtypes.int64)
        beyond = self.assign(f"add nuw nsw i64 {following.ref}, {loop.step}", dtypes.int64)
        latch = self.block
        at = loop.phi_lines
        head, before = loop.head, loop.preheader
        self.lines[at] = f"  {loop.index.ref} = phi i64 [ {loop.latch_line}, %{before} ], [ {following.ref}, %{latch} ]"
        for k, (phi, old, new) in enumerate(zip(loop.carried, loop.initial, carried, strict=True)):
            arms = f"[ {old.ref}, %{before} ], [ {new.ref}, %{latch} ]"
            self.lines[at + 1 + k] = f"  {phi.ref} = phi {phi.type} {arms}"
        again = self.compare("le", beyond, loop.stop)
        self.branch_if(again, head, loop.exit)
        self.start(loop.exit)
        return [
            self.phi(old.dtype, old.lanes, [(old, before), (new, latch)])
            for old, new in zip(loop.initial, carried, strict=True)
        ]

    # --- constants ---

    def const(self, value: Any, dtype: DType, lanes: int = 1) -> Value:
        """A number of that dtype, in every lane."""
        text = literal(value, dtype)
        if lanes > 1:
            text = f"splat ({_LLVM[dtype.code]} {text})"
        return Value(text, dtype, lanes)

    def like(self, value: Any, x: Value) -> Value:
        """A number of x's dtype and lanes."""
        assert x.dtype is not None
        return self.const(value, x.dtype, x.lanes)

    def int64(self, value: int) -> Value:
        return Value(str(value), dtypes.int64)

    def bits(self, pattern: int, dtype: DType, lanes: int = 1) -> Value:
        """An integer constant given by its bits."""
        return self.const(pattern, dtype, lanes)

    # --- arithmetic ---

    def binary(self, code: str, a: Value, b: Value) -> Value:
        return self.assign(f"{code} {a.type} {a.ref}, {b.ref}", a.dtype, a.lanes)

    def _arith(self, a: Value, b: Value, floating: str, signed: str, unsigned: str | None = None) -> Value:
        kind = _kind(a)
        return self.binary(floating if kind == "f" else signed if kind == "i" or not unsigned else unsigned, a, b)

    def add(self, a: Value, b: Value) -> Value:
        return self._arith(a, b, "fadd contract", "add")

    def sub(self, a: Value, b: Value) -> Value:
        return self._arith(a, b, "fsub contract", "sub")

    def mul(self, a: Value, b: Value) -> Value:
        return self._arith(a, b, "fmul contract", "mul")

    def div(self, a: Value, b: Value) -> Value:
        """IEEE division, or integer division towards zero (the caller has checked the divisor)."""
        return self._arith(a, b, "fdiv", "sdiv", "udiv")

    def rem(self, a: Value, b: Value) -> Value:
        return self._arith(a, b, "frem", "srem", "urem")

    def neg(self, a: Value) -> Value:
        if _kind(a) == "f":
            return self.assign(f"fneg {a.type} {a.ref}", a.dtype, a.lanes)
        return self.sub(self.like(0, a), a)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def exact_add(self, a: Value, b: Value) -> Value:
        """a + b, rounded on its own: never contracted to FMA."""
        return self.binary("fadd", a, b)

    def exact_sub(self, a: Value, b: Value) -> Value:
        """a - b, rounded on its own: never contracted to FMA."""
        return self.binary("fsub", a, b)

    def exact_mul(self, a: Value, b: Value) -> Value:
        """a * b, rounded on its own: never contracted to FMA."""
        return self.binary("fmul", a, b)

    def and_(self, a: Value, b: Value) -> Value:
        return self.binary("and", a, b)

    def or_(self, a: Value, b: Value) -> Value:
        return self.binary("or", a, b)

    def xor(self, a: Value, b: Value) -> Value:
        return self.binary("xor", a, b)

    def not_(self, a: Value) -> Value:
        return self.xor(a, self.like(True if _kind(a) == "b" else -1, a))

    def shl(self, a: Value, b: Value) -> Value:
        return self.binary("shl", a, b)

    def shr(self, a: Value, b: Value) -> Value:
        """Right shift: arithmetic for signed dtypes, logical for unsigned ones."""
        return self._arith(a, b, "", "ashr", "lshr")

    def lshr(self, a: Value, b: Value) -> Value:
        return self.binary("lshr", a, b)

    def intrinsic(self, name: str, *args: Value) -> Value:
        """An overloaded `llvm.<name>` whose result and operands are all of the first operand's type."""
        first = args[0]
        suffix = f"v{first.lanes}" if first.lanes > 1 else ""
        base = llvm_type(first.dtype)
        full = f"@llvm.{name}.{suffix}{base if base[0] == 'i' else 'f' + str(_BITS[base])}"
        self.intrinsics.add(f"declare {first.type} {full}({', '.join(arg.type for arg in args)})")
        return self.assign(f"call {first.type} {full}({', '.join(map(repr, args))})", first.dtype, first.lanes)

    def abs(self, a: Value) -> Value:
        if _kind(a) == "f":
            return self.intrinsic("fabs", a)
        return a if _kind(a) == "u" else self.select(self.compare("lt", a, self.like(0, a)), self.neg(a), a)

    def sqrt(self, a: Value) -> Value:
        return self.intrinsic("sqrt", a)

    def floor(self, a: Value) -> Value:
        return self.intrinsic("floor", a)

    def ceil(self, a: Value) -> Value:
        return self.intrinsic("ceil", a)

    def truncate(self, a: Value) -> Value:
        return self.intrinsic("trunc", a)

    def round_even(self, a: Value) -> Value:
        return self.intrinsic("roundeven", a)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        return self.intrinsic("copysign", magnitude, sign)

    def maximum(self, a: Value, b: Value) -> Value:
        """The larger; NaN when either is NaN (as numpy)."""
        if _kind(a) != "f":
            return self.select(self.compare("ge", a, b), a, b)
        larger = self.select(self.compare("gt", a, b), a, b)  # b when unordered
        return self.select(self.is_nan(a), a, larger)

    def minimum(self, a: Value, b: Value) -> Value:
        if _kind(a) != "f":
            return self.select(self.compare("le", a, b), a, b)
        smaller = self.select(self.compare("lt", a, b), a, b)
        return self.select(self.is_nan(a), a, smaller)

    # --- comparison and choice ---

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """eq, ne, lt, le, gt, ge; with NaN, all are false but ne."""
        kind = _kind(a)
        if kind == "f":
            code = "fcmp " + ("une" if predicate == "ne" else "o" + predicate)
        elif predicate in ("eq", "ne"):
            code = "icmp " + predicate
        else:
            code = "icmp " + ("s" if kind == "i" else "u") + _PREDICATES[predicate]
        return self.assign(f"{code} {a.type} {a.ref}, {b.ref}", dtypes.bool_, a.lanes)

    def is_nan(self, a: Value) -> Value:
        return self.assign(f"fcmp uno {a.type} {a.ref}, {a.ref}", dtypes.bool_, a.lanes)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        code = f"select {condition.type} {condition.ref}, {yes!r}, {no!r}"
        return self.assign(code, yes.dtype, yes.lanes)

    # --- conversion ---

    def bitcast(self, a: Value, dtype: DType) -> Value:
        """The same bits as another dtype of the same width."""
        if llvm_type(dtype) == llvm_type(a.dtype):
            return Value(a.ref, dtype, a.lanes)
        return self.assign(f"bitcast {a!r} to {llvm_type(dtype, a.lanes)}", dtype, a.lanes)

    def as_int_bits(self, a: Value) -> Value:
        """A float's bits as a signed integer of its width."""
        return self.bitcast(a, _SAME_WIDTH_INT[llvm_type(a.dtype)])

    def convert(self, a: Value, dtype: DType) -> Value:
        """C's conversion: floats to ints cut towards zero, ints wrap, anything non-zero (NaN too) is true."""
        if a.dtype is dtype:
            return a
        source, target = _kind(a), dtype.kind
        if target == "b":
            return self.compare("ne", a, self.like(0, a))
        if source == "f" and target == "f":
            wider = dtype.itemsize > (a.dtype or dtype).itemsize
            return self._conversion("fpext" if wider else "fptrunc", a, dtype)
        if source == "f":
            return self._float_to_int(a, dtype)
        if target == "f":
            return self._conversion("sitofp" if source == "i" else "uitofp", a, dtype)
        have, want = _BITS[llvm_type(a.dtype)], _BITS[llvm_type(dtype)]
        if have == want:
            return Value(a.ref, dtype, a.lanes)
        return self._conversion("trunc" if want < have else "sext" if source == "i" else "zext", a, dtype)

    def _float_to_int(self, a: Value, dtype: DType) -> Value:
        # x86's own conversion: out of range and NaN give the smallest integer. IR's fptosi would be undefined there.
        wide = dtypes.int64 if dtype.itemsize == 8 or dtype is dtypes.uint32 else dtypes.int32
        half = 2.0 ** (wide.itemsize * 8 - 1)
        fits = self.and_(
            self.compare("ge", a, self.like(-half, a)),
            self.compare("lt", a, self.like(half, a)),
        )
        cut = self._conversion("fptosi", self.select(fits, a, self.like(0.0, a)), wide)
        lowest = self.const(-(1 << (wide.itemsize * 8 - 1)), wide, a.lanes)
        if dtype is dtypes.uint64:
            shifted = self.sub(a, self.like(half, a))
            upper_fits = self.and_(
                self.compare("ge", a, self.like(half, a)), self.compare("lt", a, self.like(2 * half, a))
            )
            upper = self._conversion("fptosi", self.select(upper_fits, shifted, self.like(0.0, a)), wide)
            lowest = self.select(upper_fits, self.xor(upper, lowest), lowest)
        return self.convert(self.select(fits, cut, lowest), dtype)

    def _conversion(self, code: str, a: Value, dtype: DType) -> Value:
        return self.assign(f"{code} {a!r} to {llvm_type(dtype, a.lanes)}", dtype, a.lanes)

    # --- vectors ---

    def splat(self, a: Value, lanes: int) -> Value:
        """The scalar in every lane."""
        if a.lanes == lanes:
            return a
        if not a.ref.startswith("%"):
            return Value(f"splat ({a.type} {a.ref})", a.dtype, lanes)
        vector = llvm_type(a.dtype, lanes)
        one = self.assign(f"insertelement {vector} poison, {a!r}, i64 0", a.dtype, lanes)
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.assign(f"shufflevector {vector} {one.ref}, {vector} poison, {zeros}", a.dtype, lanes)

    def lane(self, a: Value, k: int) -> Value:
        return self.assign(f"extractelement {a!r}, i64 {k}", a.dtype)

    def with_lane(self, a: Value, k: int, scalar: Value) -> Value:
        return self.assign(f"insertelement {a!r}, {scalar!r}, i64 {k}", a.dtype, a.lanes)

    def vector_of(self, scalars: Sequence[Value]) -> Value:
        vector = Value("poison", scalars[0].dtype, len(scalars))
        for k, scalar in enumerate(scalars):
            vector = self.with_lane(vector, k, scalar)
        return vector

    def iota(self, lanes: int, step: int = 1) -> Value:
        """0, step, 2*step, ... as i64."""
        return Value("<" + ", ".join(f"i64 {k * step}" for k in range(lanes)) + ">", dtypes.int64, lanes)

    def half_of(self, a: Value, upper: bool) -> Value:
        """The lower or upper half of the lanes."""
        half = a.lanes // 2
        picks = ", ".join(f"i32 {k + half * upper}" for k in range(half))
        code = f"shufflevector {a!r}, {a.type} poison, <{half} x i32> <{picks}>"
        return self.lane(a, int(upper)) if half == 1 else self.assign(code, a.dtype, half)

    # --- memory ---

    def offset(self, pointer: Value, dtype: DType, index: Value) -> Value:
        """The address `index` elements of dtype after `pointer`."""
        code = f"getelementptr inbounds {memory_type(dtype)}, ptr {pointer.ref}, i64 {index.ref}"
        return self.assign(code, None)

    def load(self, pointer: Value, dtype: DType, lanes: int = 1) -> Value:
        """`lanes` elements from memory on; no alignment beyond the element's own is assumed."""
        kind = memory_type(dtype)
        kind = kind if lanes == 1 else f"<{lanes} x {kind}>"
        value = self.assign(f"load {kind}, ptr {pointer.ref}, align {dtype.itemsize}", dtype, lanes)
        if dtype is dtypes.bool_:
            byte = Value(value.ref, dtypes.uint8, lanes)
            return self.compare("ne", byte, self.like(0, byte))
        return value

    def store(self, value: Value, pointer: Value) -> None:
        assert value.dtype is not None
        if value.dtype is dtypes.bool_:
            value = self._conversion("zext", value, dtypes.uint8)
        assert value.dtype is not None
        self.raw(f"store {value!r}, ptr {pointer.ref}, align {value.dtype.itemsize}")

    def gather(self, pointer: Value, dtype: DType, index: Value) -> Value:
        """One element per lane of the i64 `index`."""
        if index.lanes == 1:
            return self.load(self.offset(pointer, dtype, index), dtype)
        loads = [self.load(self.offset(pointer, dtype, self.lane(index, k)), dtype) for k in range(index.lanes)]
        return self.vector_of(loads)


def memory_type(dtype: DType) -> str:
    """The IR type of an element in memory."""
    return "i8" if dtype is dtypes.bool_ else _LLVM[dtype.code]


def literal(value: Any, dtype: DType) -> str:
    """A number as an IR constant: floats by their bits, so that nothing is lost."""
    if dtype.kind == "f":
        rounded = float(dtype.np.type(value))
        return "0x" + struct.pack(">d", rounded).hex().upper()
    if dtype.kind == "b":
        return "true" if value else "false"
    bits = dtype.itemsize * 8
    number = int(value) & ((1 << bits) - 1)
    return str(number - (1 << bits) if number >> (bits - 1) else number)


def _kind(a: Value) -> str:
    assert a.dtype is not None
    return a.dtype.kind
