"""Random typed steps over feeds, constants and variables, with values for them.

A step is grown under labels: unknown extents are symbols that stand for `LABELS` while it grows, so that shapes fit for
any extents later. Values carry a bound of their size, and whether they are computed without rounding: only such ones
are compared, counted or turned into integers, since the interpreter and native code may round in different ways.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.ir import Ref, Slot, Step, Type
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

LABELS = {"n": 1009, "m": 2003}
"""What the unknown extents are while a step grows: unlike all other extents."""
EXTENTS = (1, 2, 3, 4, 5, 8)
LIMIT = 64.0
"""Values grow no further than this, so that a tolerance can be told."""
MAX_SIZE = 5_000_000

UNARY = {
    "Tanh": lambda x: 1.0, "Sigmoid": lambda x: 1.0, "Neg": lambda x: x, "Abs": lambda x: x, "Square": lambda x: x * x,
    "Relu": lambda x: x, "Softplus": lambda x: x + 1, "Sin": lambda x: 1.0, "Cos": lambda x: 1.0, "Erf": lambda x: 1.0,
    "Exp": lambda x: 20.0 if x <= 3 else 1e9, "Identity": lambda x: x, "Sinh": lambda x: 10.0 if x <= 3 else 1e9,
    "ZerosLike": lambda x: 0.0, "OnesLike": lambda x: 1.0,
}  # fmt: skip
EXACT = ("Neg", "Abs", "Relu", "Identity", "ZerosLike", "OnesLike")
BINARY = {
    "AddV2": lambda x, y: x + y, "Sub": lambda x, y: x + y, "Mul": lambda x, y: x * y, "Maximum": max, "Minimum": max,
    "SquaredDifference": lambda x, y: (x + y) ** 2,
}  # fmt: skip
INTEGER_BINARY = ("AddV2", "Sub", "Mul", "Maximum", "Minimum", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
COMPARISONS = ("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual")


@dataclass(frozen=True)
class Value:
    """A value of the step: its shape under labels, a bound of its size, whether it is computed without rounding."""

    ref: Ref
    dtype: DType
    shape: tuple[int, ...]
    bound: float
    exact: bool


@dataclass
class RandomStep:
    """A step and how to feed it: by feed its dtype, label of each axis and largest integer; by slot its type."""

    step: Step
    feeds: list[tuple[DType, tuple[int | str, ...], int]]
    slots: list[Type]

    def arrays(self, extents: Mapping[str, int], seed: int, special: bool = False) -> tuple[list[Any], list[Any]]:
        """Values for the feeds, with these extents for the labels, and for the slots."""
        rng = np.random.default_rng(seed)
        feeds = []
        for dtype, axes, high in self.feeds:
            shape = tuple(extents[axis] if isinstance(axis, str) else axis for axis in axes)
            feeds.append(some_array(rng, dtype, shape, high, special))
        slots = [some_array(rng, t.dtype, tuple(map(int, t.dims)), 7, special) for t in self.slots]  # type: ignore[arg-type]
        return feeds, slots


def some_array(rng: Any, dtype: DType, shape: tuple[int, ...], high: int, special: bool) -> np.ndarray:
    """Floats up to 2 in size, integers in [0, high)."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)  # type: ignore[no-any-return]
    if dtype.is_integer:
        return rng.integers(0, high, shape).astype(dtype.np)  # type: ignore[no-any-return]
    found = np.asarray(rng.uniform(-2, 2, shape).astype(dtype.np))
    if special and found.size and rng.random() < 0.5:
        flat = found.reshape(-1)
        flat[rng.integers(0, found.size)] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1e-40])
    return found


@dataclass
class Grower:
    """Grows one step from a seed."""

    seed: int
    known: dict[str, int] = field(default_factory=dict)
    """Labels whose extents are compiled in."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.b = StepBuilder()
        self.feeds: list[tuple[DType, tuple[int | str, ...], int]] = []
        self.values: list[Value] = []
        self.symbols: dict[str, int] = {}
        self.labels = {name: self.known.get(name, label) for name, label in LABELS.items()}
        self.float = self.random.choice([dtypes.float32, dtypes.float32, dtypes.float64])
        self.slots: list[Type] = []
        self.last_write: dict[int, Ref] = {}

    # --- values ---

    def feed(self, dtype: DType, axes: Sequence[int | str], high: int = 7) -> Value:
        j = len(self.feeds)
        extents: list[Any] = []
        kept: list[int | str] = []
        for a, axis in enumerate(axes):
            if isinstance(axis, str) and axis not in self.known:
                self.symbols[f"s{j}_{a}"] = self.labels[axis]
                extents.append(dims.symbol(f"s{j}_{a}"))
                kept.append(axis)
            else:
                extents.append(self.known.get(axis, 0) if isinstance(axis, str) else axis)
                kept.append(extents[-1])
        self.feeds.append((dtype, tuple(kept), high))
        self.b.feeds.append(Type(dtype, tuple(extents)))
        return self.keep(self.b.feed(j), 2.0, True)

    def slot(self, dtype: DType, shape: tuple[int, ...]) -> Value:
        self.slots.append(Type(dtype, shape))
        self.b.slots.append(Slot("variable", self.slots[-1], 1000 + len(self.slots)))
        return self.keep(self.b.read(len(self.slots) - 1), 2.0, True)

    def keep(self, ref: Ref, bound: float, exact: bool, late: tuple[int, ...] = ()) -> Value:
        """Take a value in; `late` is its shape under labels where extents may be known only in mid-step."""
        type_ = self.b.type(ref)
        for extent, label in zip(type_.dims, late, strict=False):
            for symbol in dims.symbols(extent) - self.symbols.keys():
                self.symbols[symbol] = label
        shape = tuple(dims.evaluate(extent, self.symbols) for extent in type_.dims)
        value = Value(ref, type_.dtype, shape, bound, exact or type_.dtype.kind != "f")
        self.values.append(value)
        return value

    def const(self, dtype: DType, shape: tuple[int, ...]) -> Value:
        rng = np.random.default_rng(self.random.randrange(1 << 30))
        if self.random.random() < 0.4:
            shape = ()
        return self.keep(self.b.const(some_array(rng, dtype, shape, 7, False), dtype), 2.0, True)

    def pick(self, where: Callable[[Value], bool]) -> Value | None:
        found = [value for value in self.values if where(value)]
        recent = found[-6:]
        return self.random.choice(recent if self.random.random() < 0.7 else found) if found else None

    def a_float(self, rank: int = 0) -> Value:
        found = self.pick(lambda v: v.dtype is self.float and len(v.shape) >= rank)
        return found or self.feed(self.float, [self.axis() for _ in range(max(rank, 2))])

    def axis(self) -> int | str:
        return self.random.choice(["n", "n", "m", *EXTENTS])

    def label(self, extent: int) -> int | str | None:
        """What an axis of a new feed has to be to have that extent; None where none can."""
        for name, label in self.labels.items():
            if label == extent:
                return name
        return extent if extent < 100 else None

    def like(self, shape: tuple[int, ...], dtype: DType) -> Value:
        """A value that broadcasts to (or from) that shape: one that there is, else a feed, constant or variable."""
        found = self.pick(lambda v: v.dtype is dtype and fits(v.shape, shape))
        if found is not None and self.random.random() < 0.75:
            return found
        keep = self.random.randrange(len(shape) + 1)
        shape = tuple(1 if self.random.random() < 0.2 else extent for extent in shape[keep:])
        axes = [self.label(extent) for extent in shape]
        if any(axis is None for axis in axes):
            axes = []
        static = all(isinstance(axis, int) for axis in axes)
        if static and self.random.random() < 0.5:
            numbers = tuple(int(axis or 0) for axis in axes)
            return self.slot(dtype, numbers) if self.random.random() < 0.3 else self.const(dtype, numbers)
        return self.feed(dtype, [axis for axis in axes if axis is not None])

    # --- ops ---

    def kinds(self) -> list[tuple[Callable[[], Value | None], int]]:
        """What there is to add, and how often it is."""
        return [
            (self.unary, 5), (self.binary, 7), (self.divide, 2), (self.reduce, 4), (self.softmax, 2), (self.matmul, 2),
            (self.transpose, 1), (self.slice, 2), (self.concat, 1), (self.gather, 1), (self.reshape, 2),
            (self.select, 2), (self.integers, 2), (self.cast, 1), (self.pad, 1), (self.parts, 1), (self.compare, 1),
            (self.assemble, 1), (self.arg, 1), (self.scan, 1), (self.fill, 1), (self.scatter, 1), (self.normalise, 1),
            (self.where, 1),
        ]  # fmt: skip

    def grow(self, length: int) -> RandomStep:
        self.feed(self.float, ["n", self.axis()])
        self.grow_some(length)
        return self.finish()

    def grow_some(self, length: int) -> None:
        """Add that many ops, if it goes."""
        kinds = self.kinds()
        functions, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        grown = 0
        for _ in range(20 * length):
            self.b.origin = grown
            try:
                made = self.random.choices(functions, weights)[0]()
            except KeyError:
                made = None  # an extent that only the running step knows, of which no label can be told
            grown += made is not None
            if grown >= length:
                break

    def finish(self) -> RandomStep:
        fetches = [value.ref for value in self.random.sample(self.values, min(len(self.values), 3))]
        fetches.append(self.values[-1].ref)
        writes = []
        for number, type_ in enumerate(self.slots):
            fitting = [v for v in self.values if v.dtype is type_.dtype and self.b.type(v.ref).dims == type_.dims]
            if self.random.random() < 0.8:
                writes.append((number, self.random.choice(fitting[-8:]).ref))
        if len(self.slots) > 1 and self.random.random() < 0.3:
            writes = self.rotation()
        return RandomStep(self.b.finish(fetches, writes), self.feeds, self.slots)

    def rotation(self) -> list[tuple[int, Ref]]:
        """Each variable takes what the next one of its type held."""
        found = []
        for number, type_ in enumerate(self.slots):
            alike = [other for other, each in enumerate(self.slots) if each == type_]
            found.append((number, self.b.read(alike[(alike.index(number) + 1) % len(alike)])))
        return found

    def unary(self) -> Value | None:
        x = self.a_float()
        name = self.random.choice(list(UNARY))
        bound = UNARY[name](x.bound)
        return self.keep(self.b.op(name, x.ref), bound, x.exact and name in EXACT) if bound <= LIMIT else None

    def binary(self) -> Value | None:
        x = self.a_float()
        y = self.like(x.shape, x.dtype)
        if self.random.random() < 0.3:
            x, y = y, x
        name = self.random.choice(list(BINARY))
        bound = BINARY[name](x.bound, y.bound)
        if bound > LIMIT or not small(np.broadcast_shapes(x.shape, y.shape)):
            return None
        exact = x.exact and y.exact and name in ("Maximum", "Minimum")
        return self.keep(self.b.op(name, x.ref, y.ref), bound, exact, np.broadcast_shapes(x.shape, y.shape))

    def divide(self) -> Value | None:
        x = self.a_float()
        y = self.like(x.shape, x.dtype)
        if not small(np.broadcast_shapes(x.shape, y.shape)):
            return None
        below = self.b.op("AddV2", self.b.op("Square", y.ref), self.b.const(1.0, x.dtype))
        kind = self.random.choice(["RealDiv", "Sqrt", "Rsqrt", "Log", "Xdivy", "DivNoNan", "Pow"])
        if kind == "Pow":
            return self.keep(self.b.op("Pow", below, self.b.const(0.5, x.dtype)), y.bound + 1, False)
        if kind in ("Sqrt", "Rsqrt", "Log"):
            return self.keep(self.b.op(kind, below), y.bound + 1, False)
        return self.keep(self.b.op(kind, x.ref, below), x.bound, False, np.broadcast_shapes(x.shape, y.shape))

    def reduce(self) -> Value | None:
        x = self.a_float(1)
        rank = len(x.shape)
        axes = sorted(self.random.sample(range(rank), self.random.randrange(rank + 1)))
        if self.random.random() < 0.3:
            axes = [axis - rank for axis in axes]
        name = self.random.choice(["Sum", "Sum", "Mean", "Max", "Min", "EuclideanNorm", "Prod"])
        bound = {"Sum": x.bound * 20, "EuclideanNorm": x.bound * 6, "Prod": 1.0}.get(name, x.bound)
        if bound > 4 * LIMIT:
            return None
        if name == "Prod":
            x = self.keep(self.b.op("Sigmoid", x.ref), 1.0, False)
        return self.keep(
            self.b.reduce(name, x.ref, axes, self.random.random() < 0.5), bound, x.exact and name in ("Max", "Min")
        )

    def softmax(self) -> Value | None:
        x = self.a_float(2)
        if len(x.shape) == 2 and self.random.random() < 0.4:
            y = self.like(x.shape, x.dtype)
            if y.shape == x.shape:
                loss, back = self.b.op("SoftmaxCrossEntropyWithLogits", x.ref, y.ref)
                self.keep(back, y.bound + 1, False, x.shape)
                return self.keep(loss, LIMIT, False, x.shape[:1])
        if len(x.shape) == 2 and 1 < x.shape[1] < 100 and self.random.random() < 0.4 and self.label(x.shape[0]):
            axis = self.label(x.shape[0])
            assert axis is not None
            y = self.feed(self.random.choice([dtypes.int32, dtypes.int64]), [axis], x.shape[1])
            loss, back = self.b.op("SparseSoftmaxCrossEntropyWithLogits", x.ref, y.ref)
            self.keep(back, 2.0, False)
            return self.keep(loss, LIMIT, False)
        return self.keep(self.b.op(self.random.choice(["Softmax", "LogSoftmax"]), x.ref), x.bound * 2 + 5, False)

    def normalise(self) -> Value | None:
        """x less its mean over the spread of it: reductions in stages, over any axes."""
        x = self.a_float(1)
        rank = len(x.shape)
        axes = self.random.sample(range(rank), self.random.randint(1, rank))
        centred = self.b.op("Sub", x.ref, self.b.reduce("Mean", x.ref, axes, True))
        spread = self.b.reduce("Mean", self.b.op("Square", centred), axes, True)
        scale = self.b.op("Rsqrt", self.b.op("AddV2", spread, self.b.const(0.5, x.dtype)))
        if self.random.random() < 0.3:
            self.keep(self.b.op("Reshape", spread, self.b.op("Shape", spread)), x.bound**2, False)
        return self.keep(self.b.op("Mul", centred, scale), x.bound * 4, False)

    def matmul(self) -> Value | None:
        x = self.a_float(2)
        if len(x.shape) > 3 or x.bound > 8 or not x.shape[-1]:
            return None
        flip_a, flip_b = self.random.random() < 0.3, self.random.random() < 0.3
        inner = self.label(x.shape[-2 if flip_a else -1])
        if inner is None:
            return None
        other = self.random.choice(["m", 1, 3, 5, 16, 33])
        y_axes = [other, inner] if flip_b else [inner, other]
        y = self.feed(x.dtype, y_axes)
        if len(x.shape) == 2:
            made = self.b.op("MatMul", x.ref, y.ref, transpose_a=flip_a, transpose_b=flip_b)
        else:
            made = self.b.op("BatchMatMulV2", x.ref, y.ref, adj_x=flip_a, adj_y=flip_b)
        value = self.keep(made, x.bound * 20, False)
        if self.random.random() < 0.5:
            bias = self.like(value.shape[-1:], x.dtype)
            if len(bias.shape) == 1 and bias.shape == value.shape[-1:]:
                value = self.keep(self.b.op("BiasAdd", value.ref, bias.ref), value.bound + 2, False)
        # What follows has to stay small.
        return self.keep(self.b.op(self.random.choice(["Tanh", "Sigmoid"]), value.ref), 1.0, False)

    def transpose(self) -> Value | None:
        x = self.anything(2)
        perm = list(range(len(x.shape)))
        self.random.shuffle(perm)
        return self.moved(x, "Transpose", self.b.const(perm, dtypes.int32))

    def anything(self, rank: int = 0) -> Value:
        return self.pick(lambda v: len(v.shape) >= rank) or self.a_float(rank)

    def moved(self, x: Value, name: str, *more: Ref, **attrs: Any) -> Value:
        return self.keep(self.b.op(name, x.ref, *more, **attrs), x.bound, x.exact)

    def ints(self, numbers: Sequence[int]) -> Ref:
        return self.b.const(list(numbers), self.random.choice([dtypes.int32, dtypes.int32, dtypes.int64]))

    def slice(self) -> Value | None:
        x = self.anything(1)
        begin, size, strides, ends = [], [], [], []
        for extent in x.shape:
            free = extent < 100
            start = self.random.randrange(extent + 1) if free and extent else 0
            count = self.random.randrange(extent - start + 1) if free and self.random.random() < 0.6 else -1
            begin.append(start)
            size.append(count)
            ends.append(self.random.choice([-1, 3, extent if free else 2, 50]))
            strides.append(self.random.choice([1, 1, 1, 2, -1, 3]))
        if self.random.random() < 0.5:
            return self.moved(x, "Slice", self.b.const(begin, dtypes.int32), self.b.const(size, dtypes.int32))
        masks = {name: self.random.randrange(1 << len(x.shape)) for name in ("begin_mask", "end_mask")}
        shrink = 0
        if x.shape[0] < 100 and x.shape[0] and self.random.random() < 0.3:
            begin[0], shrink, strides[0] = min(begin[0], x.shape[0] - 1), 1, 1
            masks["begin_mask"] &= ~1
        parts = [self.b.const(part, dtypes.int32) for part in (begin, ends, strides)]
        return self.moved(x, "StridedSlice", *parts, shrink_axis_mask=shrink, **masks)

    def concat(self) -> Value | None:
        x = self.anything(1)
        axis = self.random.randrange(len(x.shape))
        others = [v for v in self.values if v.dtype is x.dtype and same_but(v.shape, x.shape, axis)][-4:]
        chosen = [x, *self.random.choices(others, k=self.random.randrange(1, 4))]
        if not small((*x.shape[:axis], sum(v.shape[axis] for v in chosen), *x.shape[axis + 1 :])):
            return None
        made = self.b.op("ConcatV2", *[v.ref for v in chosen], self.ints([axis])[:0] or self.scalar(axis))
        return self.keep(made, max(v.bound for v in chosen), all(v.exact for v in chosen))

    def scalar(self, number: int) -> Ref:
        return self.b.const(number, dtypes.int32)

    def assemble(self) -> Value | None:
        x = self.anything()
        others = [v for v in self.values if v.dtype is x.dtype and v.shape == x.shape][-4:]
        chosen = [x, *self.random.choices(others, k=self.random.randrange(0, 3))]
        if len(x.shape) > 3 or not small((*x.shape, 3)):
            return None
        made = self.b.op("Pack", *[v.ref for v in chosen], axis=self.random.randrange(len(x.shape) + 1))
        return self.keep(made, max(v.bound for v in chosen), all(v.exact for v in chosen))

    def gather(self) -> Value | None:
        x = self.anything(1)
        axis = self.random.randrange(len(x.shape))
        if not 0 < x.shape[axis] < 100:
            return None
        indices = self.feed(self.random.choice([dtypes.int32, dtypes.int64]), [self.axis()], x.shape[axis])
        if not small(x.shape[:axis] + indices.shape + x.shape[axis + 1 :]):
            return None
        return self.moved(x, "GatherV2", indices.ref, self.scalar(axis))

    def scatter(self) -> Value | None:
        x = self.pick(lambda v: v.dtype is self.float and len(v.shape) >= 1 and 0 < v.shape[0] < 100 and v.bound <= 8)
        if x is None:
            return None
        updates = self.pick(lambda v: v.dtype is self.float and v.shape[1:] == x.shape[1:] and len(v.shape) == len(x.shape))
        axis = None if updates is None else self.label(updates.shape[0])
        if updates is None or axis is None:
            return None
        indices = self.feed(dtypes.int32, [axis], x.shape[0])
        kind = self.random.choice([b"add", b"sub"])
        made = self.b.op("_ScatterRows", x.ref, indices.ref, updates.ref, kind=kind)
        return self.keep(made, x.bound + 20 * updates.bound, False)

    def reshape(self) -> Value | None:
        x = self.anything()
        kind = self.random.randrange(5)
        if kind == 0:
            return self.moved(x, "Reshape", self.ints([-1]))
        if kind == 1:
            return self.moved(x, "ExpandDims", self.scalar(self.random.randrange(-1, len(x.shape) + 1)))
        if kind == 2 and x.shape:
            last = [e for e in x.shape[-1:] if 0 < e < 100]
            return self.moved(x, "Reshape", self.ints([-1, *last])) if 0 not in x.shape else None
        if kind == 3:
            ones = [a for a, extent in enumerate(self.b.type(x.ref).dims) if extent == 1]
            axes = self.random.sample(ones, self.random.randrange(len(ones) + 1)) if ones else []
            return self.moved(x, "Squeeze", squeeze_dims=tuple(axes)) if axes else None
        other = self.pick(lambda v: np.prod(v.shape) == np.prod(x.shape) and v.shape != x.shape)
        if other is None:
            return None
        return self.moved(x, "Reshape", self.b.op("Shape", other.ref))

    def select(self) -> Value | None:
        condition = self.pick(lambda v: v.dtype is dtypes.bool_)
        if condition is None or self.random.random() < 0.5:
            condition = self.compare()
        if condition is None:
            return None
        x = self.like(condition.shape, self.float)
        if not small(np.broadcast_shapes(condition.shape, x.shape)):
            return None
        y = self.like(np.broadcast_shapes(condition.shape, x.shape), self.float)
        made = self.b.op("SelectV2", condition.ref, x.ref, y.ref)
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        return self.keep(made, max(x.bound, y.bound), x.exact and y.exact, shape)

    def compare(self) -> Value | None:
        if self.random.random() < 0.25:
            x = self.pick(lambda v: v.dtype is dtypes.bool_)
            if x is None:
                return None
            if self.random.random() < 0.4 and x.shape:
                axes = self.random.sample(range(len(x.shape)), self.random.randrange(len(x.shape) + 1))
                return self.keep(self.b.reduce(self.random.choice(["Any", "All"]), x.ref, axes), 1, True)
            y = self.like(x.shape, dtypes.bool_)
            if not small(np.broadcast_shapes(x.shape, y.shape)):
                return None
            made = self.b.op(self.random.choice(["LogicalAnd", "LogicalOr"]), x.ref, y.ref)
            return self.keep(made, 1, True, np.broadcast_shapes(x.shape, y.shape))
        x = self.pick(lambda v: v.exact and v.dtype is not dtypes.bool_) or self.a_float()
        y = self.like(x.shape, x.dtype)
        if not (x.exact and y.exact) or not small(np.broadcast_shapes(x.shape, y.shape)):
            return None
        made = self.b.op(self.random.choice(COMPARISONS), x.ref, y.ref)
        return self.keep(made, 1, True, np.broadcast_shapes(x.shape, y.shape))

    def integers(self) -> Value | None:
        x = self.pick(lambda v: v.dtype in (dtypes.int32, dtypes.int64))
        if x is None:
            return self.feed(self.random.choice([dtypes.int32, dtypes.int64]), [self.axis(), self.axis()])
        kind = self.random.random()
        if kind < 0.2 and x.shape:
            axes = self.random.sample(range(len(x.shape)), self.random.randrange(len(x.shape) + 1))
            name = self.random.choice(["Sum", "Max", "Min", "Prod"])
            return self.keep(self.b.reduce(name, x.ref, axes, self.random.random() < 0.5), 1, True)
        y = self.like(x.shape, x.dtype)
        if not small(np.broadcast_shapes(x.shape, y.shape)):
            return None
        if kind < 0.4:
            below = self.b.op("BitwiseOr", self.b.op("BitwiseAnd", y.ref, self.b.const(7, x.dtype)), self.b.const(1, x.dtype))
            made = self.b.op(self.random.choice(["FloorDiv", "FloorMod", "TruncateDiv"]), x.ref, below)
        else:
            made = self.b.op(self.random.choice(INTEGER_BINARY), x.ref, y.ref)
        return self.keep(made, 1, True, np.broadcast_shapes(x.shape, y.shape))

    def cast(self) -> Value | None:
        x = self.pick(lambda v: v.exact)
        if x is None:
            return None
        to = self.random.choice([self.float, dtypes.int32, dtypes.int64, dtypes.bool_])
        if x.dtype.is_integer and to is self.float:
            small_ = self.b.op("BitwiseAnd", x.ref, self.b.const(3, x.dtype))
            return self.keep(self.b.op("Cast", small_, DstT=to), 3.0, True)
        if x.dtype.kind == "f" and to.is_integer:
            # Infinities and NaN have no integer; clipped, all but NaN do, and the largest of 0 and NaN may be either.
            return None if x.bound > LIMIT else self.keep(self.b.op("Cast", self.finite(x), DstT=to), 1, True)
        return self.keep(self.b.op("Cast", x.ref, DstT=to), x.bound, True)

    def finite(self, x: Value) -> Ref:
        zero = self.b.const(0.0, x.dtype)
        return self.b.op("SelectV2", self.b.op("IsFinite", x.ref), x.ref, zero)  # type: ignore[no-any-return]

    def pad(self) -> Value | None:
        x = self.anything(1)
        kind = self.random.randrange(4)
        if not small(tuple(extent + 5 for extent in x.shape)) or len(x.shape) > 4:
            return None
        if kind == 0:
            pads = [[self.random.randrange(3), self.random.randrange(3)] for _ in x.shape]
            if x.dtype is dtypes.bool_:
                return None
            return self.moved(x, "Pad", self.b.const(pads, dtypes.int32))
        if kind == 1 and small(tuple(2 * extent for extent in x.shape)):
            return self.moved(x, "Tile", self.b.const([self.random.randrange(1, 3) for _ in x.shape], dtypes.int32))
        if kind == 2:
            axes = self.random.sample(range(len(x.shape)), self.random.randrange(len(x.shape) + 1))
            return self.moved(x, "ReverseV2", self.b.const(axes, dtypes.int32))
        if x.dtype.is_integer:
            made = self.b.op(
                "OneHot", x.ref, self.scalar(5), self.b.const(1.0, self.float), self.b.const(0.0, self.float),
                axis=self.random.randrange(-1, len(x.shape) + 1),
            )  # fmt: skip
            return self.keep(made, 1.0, True)
        return None

    def parts(self) -> Value | None:
        x = self.anything(1)
        axis = self.random.randrange(len(x.shape))
        if not 1 < x.shape[axis] < 100:
            return None
        extent = x.shape[axis]
        if self.random.random() < 0.4:
            found = self.b.op("Unpack", x.ref, num=extent, axis=axis)
        elif extent % 2 == 0 and self.random.random() < 0.5:
            found = self.b.op("Split", self.scalar(axis), x.ref, num_split=2)
        else:
            first = self.random.randrange(extent + 1)
            found = self.b.op(
                "SplitV", x.ref, self.b.const([first, extent - first], dtypes.int32), self.scalar(axis), num_split=2
            )
        kept = [self.keep(ref, x.bound, x.exact) for ref in found]
        return self.random.choice(kept)

    def arg(self) -> Value | None:
        x = self.pick(lambda v: v.exact and v.dtype is not dtypes.bool_ and len(v.shape) >= 1)
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape))
        if not 0 < x.shape[axis] < 100:
            return None
        out = self.random.choice([dtypes.int32, dtypes.int64])
        return self.keep(self.b.op(self.random.choice(["ArgMax", "ArgMin"]), x.ref, self.scalar(axis), output_type=out), 1, True)

    def scan(self) -> Value | None:
        x = self.a_float(1)
        if x.bound > 8:
            return None
        attrs = {"exclusive": self.random.random() < 0.5, "reverse": self.random.random() < 0.5}
        made = self.b.op("Cumsum", x.ref, self.scalar(self.random.randrange(len(x.shape))), **attrs)
        return self.keep(made, x.bound * 20, False)

    def where(self) -> Value | None:
        """Rows picked by a condition: their number is only known when the step runs."""
        x = self.pick(lambda v: 1 <= len(v.shape) <= 3 and v.shape[0] in self.labels.values())
        axis = None if x is None else self.label(x.shape[0])
        if x is None or axis is None:
            return None
        label = 3001 + 2 * len(self.symbols)
        found = self.keep(self.b.op("Where", self.feed(dtypes.bool_, [axis]).ref), 1, True, (label, 1))
        rows = self.b.op("Squeeze", found.ref, squeeze_dims=(1,))
        if not small((label, *x.shape[1:])):
            return None
        return self.moved(x, "GatherV2", rows, self.scalar(0))

    def fill(self) -> Value | None:
        x = self.anything()
        kind = self.random.randrange(4)
        if kind == 0:
            return self.keep(self.b.op("Fill", self.b.op("Shape", x.ref), self.b.const(1.5, self.float)), 1.5, True)
        if kind == 1:
            return self.keep(self.b.op("Shape", x.ref, out_type=dtypes.int64), 1, True)
        if kind == 2:
            y = self.like(x.shape, x.dtype)
            fits_in = np.broadcast_shapes(x.shape, y.shape) == x.shape
            return self.moved(y, "BroadcastTo", self.b.op("Shape", x.ref)) if fits_in else None
        return self.keep(self.b.op("Range", self.scalar(0), self.b.op("Size", x.ref), self.scalar(1)), 1, True)


def fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast with one another."""
    return all(x == y or 1 in (x, y) for x, y in zip(a[::-1], b[::-1], strict=False))


def same_but(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    return len(a) == len(b) and all(x == y or k == axis for k, (x, y) in enumerate(zip(a, b, strict=True)))


def small(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape)) <= MAX_SIZE and len(shape) <= 5
