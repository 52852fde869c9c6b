"""The control flow of TensorFlow 1's graphs on the wire: `passes/structure.py` finds the branches and loops in it."""

from __future__ import annotations

from stepjit_compiler.opdef import Inference, ShapeLike, define, scalar

SWITCHES = ("Switch", "RefSwitch")
MERGES = ("Merge", "RefMerge")
ENTERS = ("Enter", "RefEnter")
EXITS = ("Exit", "RefExit")
BACK = ("NextIteration", "RefNextIteration")
V1 = frozenset((*SWITCHES, *MERGES, *ENTERS, *EXITS, *BACK, "LoopCond"))

# --- Switch, RefSwitch: the value, dead at one of the two outputs ---


def _both(x: Inference) -> list[ShapeLike]:
    return [x.shape(0), x.shape(0)]


define("Switch", "data: T, pred: bool -> output_false: T, output_true: T", "T: type", infer=_both, stateful=True)
define("RefSwitch", "data: Ref(T), pred: bool -> output_false: Ref(T), output_true: Ref(T)", "T: type",
       infer=_both, stateful=True)  # fmt: skip

# --- Merge, RefMerge: the input that is not dead ---


def _any_of(x: Inference) -> list[ShapeLike]:
    shapes = [x.shape(i) for i in range(x.count())]
    first = shapes[0]
    if any(shape is None or first is None or len(shape) != len(first) for shape in shapes):
        return [None, ()]
    columns = zip(*(shape for shape in shapes if shape is not None))
    return [tuple(column[0] if len(set(column)) == 1 else None for column in columns), ()]


define("Merge", "inputs: N*T -> output: T, value_index: int32", "T: type, N: int", infer=_any_of, stateful=True)
define("RefMerge", "inputs: N*Ref(T) -> output: Ref(T), value_index: int32", "T: type, N: int",
       infer=_any_of, stateful=True)  # fmt: skip

# --- Enter, Exit, NextIteration and their Ref forms: into a loop's frame, out of it, and to the next trip ---


def _into(x: Inference) -> list[ShapeLike]:
    # A loop variable may have other shapes in later trips.
    return [x.shape(0) if x.attrs["is_constant"] else None]


_FRAME = "T: type, frame_name: string, is_constant: bool = False, parallel_iterations: int = 10"
for _prefix, _type in (("", "T"), ("Ref", "Ref(T)")):
    define(f"{_prefix}Enter", f"data: {_type} -> output: {_type}", _FRAME, infer=_into, stateful=True)
    for _name in ("Exit", "NextIteration"):
        define(f"{_prefix}{_name}", f"data: {_type} -> output: {_type}", "T: type",
               infer=lambda x: [x.shape(0)], stateful=True)  # fmt: skip

# --- LoopCond: whether there is another trip ---
define("LoopCond", "input: bool -> output: bool", infer=scalar, stateful=True)
