"""Random steps with branches and loops: regions are grown as steps are, over values of the step around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from random_steps import LIMIT, Grower, Value, small

from stepjit_compiler import dims
from stepjit_compiler.ir import Ref, Step, Type
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

DEEPEST = 2


@dataclass
class RegionGrower(Grower):
    """Grows steps whose ops may be branches and loops."""

    depth: int = 0

    def kinds(self) -> list[tuple[Callable[[], Value | None], int]]:
        found = super().kinds()
        return [*found, (self.branch, 4), (self.loop, 4)] if self.depth < DEEPEST else found

    def inner(self, passed: list[Value]) -> Inner:
        found = Inner(self.random.randrange(1 << 30), self.known, self.depth + 1, outer=self, passed=passed)
        found.start()
        return found

    def some(self, count: int) -> list[Value]:
        """Values that a region is given; a float among them."""
        found = [self.a_float(), *(self.anything() for _ in range(count))]
        return list(dict.fromkeys(each for each in found if small((16, *each.shape))))

    # --- branches ---

    def branch(self) -> Value | None:
        condition = self.pick(lambda v: v.dtype is dtypes.bool_ and v.shape == ())
        if condition is None or self.random.random() < 0.3:
            condition = self.feed(dtypes.bool_, [])
        passed = self.some(self.random.randrange(4))
        if not passed:
            return None
        wanted = [self.random.choice(passed) for _ in range(self.random.randint(1, 3))]
        branches = [self.inner(passed), self.inner(passed)]
        chosen: list[list[Value]] = []
        for inner in branches:
            inner.grow_some(self.random.randrange(7))
            chosen.append([inner.of_type(inner.values[passed.index(value)]) for value in wanted])
        then, other = (inner.step([value.ref for value in values]) for inner, values in zip(branches, chosen))
        made = self.b.emit("_If", [condition.ref, *(value.ref for value in passed)], {
            "Tin": tuple(value.dtype for value in passed), "Tout": tuple(value.dtype for value in wanted),
            "then": then, "else": other,
        })  # fmt: skip
        for ref, a, b in zip(made, *chosen):
            self.keep(ref, max(a.bound, b.bound), a.exact and b.exact, a.shape)
        return self.values[-1]

    # --- loops ---

    def loop(self) -> Value | None:
        variables = self.some(self.random.randrange(3))
        if not variables:
            return None
        zero = self.keep(self.b.const(0, dtypes.int32), 1, True)
        trips = self.random.randrange(5)
        if self.random.random() < 0.5:
            most = self.feed(dtypes.int32, [], 5)
        else:
            most = self.keep(self.b.const(trips, dtypes.int32), 1, True)
        passed = [zero, most, *variables]
        body = self.inner(passed)
        for k, value in enumerate(body.values):
            # What comes of a float in later trips is rounded.
            body.values[k] = Value(value.ref, value.dtype, value.shape, max(value.bound, 1.0), value.dtype.kind != "f")
        own = list(body.values)
        body.grow_some(self.random.randrange(2, 9))
        counted = body.b.op("AddV2", own[0].ref, body.b.const(1, dtypes.int32))
        results = [counted, own[1].ref]
        for value in own[2:]:
            result = value if self.random.random() < 0.2 else body.of_type(value)
            results.append(self.tame(body, value, result))
        stacked = [value for value in body.values[-4:] if self.random.random() < 0.3 and small((8, *value.shape))]
        kept = len(passed)
        for value in passed[len(results) :]:  # what the body took in on the way stays as it is
            results.append(body.values[0].ref if value is zero else body.own(value))
        cond = self.inner(passed)
        holds = cond.b.op("Less", cond.values[0].ref, cond.values[1].ref)
        if self.random.random() < 0.2:
            cond.grow_some(3)
            more = cond.pick(lambda v: v.dtype is dtypes.bool_ and v.shape == ())
            holds = holds if more is None else cond.b.op("LogicalAnd", holds, more.ref)
        while len(results) < len(passed):  # and so does what the condition took in
            results.append(body.own(passed[len(results)]))
        body_step = body.step([*results, *(value.ref for value in stacked)])
        made = self.b.emit("_While", [value.ref for value in passed], {
            "T": tuple(value.dtype for value in passed),
            "Tout": tuple(type_.dtype for type_ in body_step.results()),
            "body": body_step, "cond": cond.step([holds]), "stacked": len(stacked),
        })  # fmt: skip
        for k, value in enumerate(passed[:kept]):
            self.keep(made[k], max(value.bound, 1.0), value.dtype.kind != "f", value.shape)
        for ref, value in zip(made[len(passed) :], stacked):
            label = 4001 + 2 * len(self.symbols)
            self.keep(ref, value.bound, value.exact, (label, *value.shape))
        return self.values[-1]

    @staticmethod
    def tame(body: Inner, value: Value, result: Value) -> Ref:
        """A result that stays within the bound that the variable has in every trip."""
        if value.dtype.kind != "f" or result.bound <= max(value.bound, 1.0):
            return result.ref
        found: Ref = body.b.op("Tanh", result.ref)
        return found


@dataclass
class Inner(RegionGrower):
    """Grows a region; what it lacks it takes from around it as one more parameter."""

    outer: RegionGrower = field(default=None)  # type: ignore[assignment]
    passed: list[Value] = field(default_factory=list)

    def start(self) -> None:
        self.float = self.outer.float
        types = [self.outer.b.type(value.ref) for value in self.passed]
        names = {name for type_ in types for extent in type_.dims for name in dims.symbols(extent)}
        self.symbols = {name: self.outer.symbols[name] for name in names}
        self.b = StepBuilder(types)
        self.catch_up()

    def catch_up(self) -> None:
        """Know the parameters that were added to the node meanwhile."""
        for value in self.passed[self._known() :]:
            self.take(value)

    def _known(self) -> int:
        return getattr(self, "_taken", 0)

    def take(self, value: Value) -> Value:
        number = self._known()
        self._taken = number + 1
        type_ = self.outer.b.type(value.ref)
        if number == len(self.b.feeds):
            self.b.feeds.append(type_)
        for extent, label in zip(type_.dims, value.shape):
            for name in dims.symbols(extent):
                self.symbols.setdefault(name, self.outer.symbols.get(name, label))
        return self.keep(self.b.feed(number), value.bound, value.exact, value.shape)

    def own(self, value: Value) -> Ref:
        """The parameter that stands for a value around the region."""
        self.catch_up()
        return self.b.feed(self.passed.index(value))

    def feed(self, dtype: DType, axes: Sequence[int | str], high: int = 7) -> Value:
        return self.pass_in(self.outer.feed(dtype, axes, high))

    def slot(self, dtype: DType, shape: tuple[int, ...]) -> Value:
        return self.pass_in(self.outer.slot(dtype, shape))

    def pass_in(self, value: Value) -> Value:
        self.catch_up()
        self.passed.append(value)
        return self.take(value)

    def of_type(self, wanted: Value) -> Value:
        """A value of the very type of another one."""
        type_: Type = self.b.type(wanted.ref)
        found = [value for value in self.values if self.b.type(value.ref) == type_ and value.bound <= LIMIT]
        return self.random.choice(found[-4:]) if found else wanted

    def step(self, refs: Sequence[Ref]) -> Step:
        self.catch_up()
        return self.b.finish(list(refs))

