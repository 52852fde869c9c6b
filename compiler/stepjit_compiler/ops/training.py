"""Optimizers' updates: each variable is read and written once, whatever the number of its slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit_compiler.lowering import Update
from stepjit_compiler.opdef import Inference, ShapeLike, define
from stepjit_compiler.ops.state import merged, same_shape
from stepjit_compiler.ops.state_rows import check_rows


class Terms:
    """Formulas over refs: `t.add(a, b)`; a Python number takes the dtype of the variables."""

    def __init__(self, x: Any, like: Any) -> None:
        self.x, self.dtype = x, x.type(like).dtype

    def op(self, name: str, *operands: Any) -> Any:
        constants = [self.x.const(each, self.dtype) if isinstance(each, (int, float)) else each for each in operands]
        return self.x.op(name, *constants)

    def add(self, a: Any, b: Any) -> Any:
        return self.op("AddV2", a, b)

    def sub(self, a: Any, b: Any) -> Any:
        return self.op("Sub", a, b)

    def mul(self, *factors: Any) -> Any:
        total = factors[0]
        for factor in factors[1:]:
            total = self.op("Mul", total, factor)
        return total

    def div(self, a: Any, b: Any) -> Any:
        return self.op("RealDiv", a, b)

    def sqrt(self, a: Any) -> Any:
        return self.op("Sqrt", a)

    def rsqrt(self, a: Any) -> Any:
        return self.op("Rsqrt", a)

    def square(self, a: Any) -> Any:
        return self.op("Square", a)

    def number(self, ref: Any) -> float | None:
        """A hyper-parameter as a number, where it is one that stands in the graph."""
        node = self.x.nodes[ref[0]]
        while node.op in ("Cast", "Identity"):
            node = self.x.nodes[node.inputs[0].node]
        return float(node.attr["value"].array) if node.op == "Const" and not node.types[0].dims else None

    def toward(self, old: Any, new: Any, rate: Any) -> Any:
        """old + (new - old) * (1 - rate)"""
        return self.add(old, self.mul(self.sub(new, old), self.sub(1, rate)))

    def shrunk(self, value: Any, by: Any) -> Any:
        """The value brought towards 0 by `by`, not past it."""
        return self.mul(self.op("Sign", value), self.op("Maximum", self.sub(self.op("Abs", value), by), 0))


Formula = Callable[..., Sequence[Any]]


def optimizer(name: str, slots: str, inputs: str, attrs: str, formula: Formula, sparse: bool = True) -> None:
    """Define `Apply<name>` and `ResourceApply<name>`, and the forms for some rows alone where `sparse`.

    slots: names of the variables; inputs: the rest of the signature, with `grad` or `delta` the gradient. `formula(t,
    attrs, *all)` gives the variables' new values.
    """
    count = len(slots.split())
    names = [part.split(":")[0].strip() for part in inputs.split(",")]
    gradient = count + next(i for i, each in enumerate(names) if each in ("grad", "delta"))
    full = "T: type in number, use_locking: bool = False" + (f", {attrs}" if attrs else "")
    slot_numbers = tuple(range(count))
    others = {**dict(enumerate(slots.split())), gradient: names[gradient - count]}
    differing = {
        i: f"{others[0]} and {other} do not have the same shape{{have}} {{new}}" for i, other in others.items() if i
    }

    def expand(x: Any, call: Any, *refs: Any) -> Sequence[Any]:
        for i, text in differing.items():
            same_shape(x, call, refs[0], refs[i], text)
        return formula(Terms(x, refs[0]), call.attrs, *refs)

    def infer(x: Inference) -> list[ShapeLike]:
        shape = x.shape(0)
        for i, text in differing.items():
            shape = merged(x, shape, x.shape(i), text)
        return [shape]

    _both(f"Apply{name}", slots, inputs, full, infer, Update(slot_numbers, expand))
    if sparse:
        _sparse(name, slots, inputs, full, formula, gradient)


def _both(name: str, slots: str, inputs: str, attrs: str, infer: Any, lower: Update) -> None:
    refs, handles = (", ".join(f"{slot}: {kind}" for slot in slots.split()) for kind in ("Ref(T)", "resource"))
    if not name.endswith("KerasMomentum"):  # this one is for resources alone
        define(name, f"{refs}, {inputs} -> out: Ref(T)", attrs, infer=infer, lower=lower)

    def no_result(x: Inference) -> list[ShapeLike]:
        infer(x)
        return []

    define(f"Resource{name}", f"{handles}, {inputs} ->", attrs, infer=no_result, lower=lower, stateful=True)


def _sparse(name: str, slots: str, inputs: str, attrs: str, formula: Formula, gradient: int) -> None:
    """The gradient is that of the rows named by `indices`, which come right after it."""
    count = len(slots.split())
    inputs = inputs.replace("delta:", "grad:").replace("grad: T", "grad: T, indices: Tindices")
    attrs = attrs.replace("T: type in number", "T: type in number, Tindices: type in index", 1)

    def expand(x: Any, call: Any, *refs: Any) -> Sequence[Any]:
        indices, operands = refs[gradient + 1], refs[: gradient + 1] + refs[gradient + 2 :]
        rows = [x.op("_RowsOf", ref, indices, refs[gradient]) for ref in operands[:count]]
        new = formula(Terms(x, refs[0]), call.attrs, *rows, *operands[count:])
        return tuple(x.op("_ScatterRows", old, indices, row, kind=b"update") for old, row in zip(refs, new))

    def infer(x: Inference) -> list[ShapeLike]:
        check_rows(x, x.shape(0), x.shape(gradient + 1), x.shape(gradient))
        return [x.shape(0)]

    _both(f"SparseApply{name}", slots, inputs, attrs, infer, Update(tuple(range(count)), expand))


# --- GradientDescent ---
optimizer("GradientDescent", "var", "alpha: T, delta: T", "",
          lambda t, attrs, var, alpha, delta: (t.sub(var, t.mul(delta, alpha)),), sparse=False)  # fmt: skip


# --- ProximalGradientDescent ---
def _proximal(t: Terms, moved: Any, rate: Any, l1: Any, l2: Any) -> Any:
    return t.div(t.shrunk(moved, t.mul(rate, l1)), t.add(1, t.mul(rate, l2)))


def _proximal_descent(t: Terms, attrs: Any, var: Any, alpha: Any, l1: Any, l2: Any, delta: Any) -> Sequence[Any]:
    return (_proximal(t, t.sub(var, t.mul(delta, alpha)), alpha, l1, l2),)


optimizer("ProximalGradientDescent", "var", "alpha: T, l1: T, l2: T, delta: T", "", _proximal_descent)


# --- Momentum, KerasMomentum ---
def _momentum(t: Terms, attrs: Any, var: Any, accum: Any, lr: Any, grad: Any, momentum: Any) -> Sequence[Any]:
    accum = t.add(t.mul(accum, momentum), grad)
    step = t.mul(accum, lr)
    if attrs["use_nesterov"]:
        step = t.add(t.mul(grad, lr), t.mul(accum, momentum, lr))
    return t.sub(var, step), accum


def _keras_momentum(t: Terms, attrs: Any, var: Any, accum: Any, lr: Any, grad: Any, momentum: Any) -> Sequence[Any]:
    accum = t.sub(t.mul(accum, momentum), t.mul(grad, lr))
    step = t.sub(t.mul(accum, momentum), t.mul(grad, lr)) if attrs["use_nesterov"] else accum
    return t.add(var, step), accum


_MOMENTUM = ("var accum", "lr: T, grad: T, momentum: T", "use_nesterov: bool = False")
optimizer("Momentum", *_MOMENTUM, _momentum)
optimizer("KerasMomentum", *_MOMENTUM, _keras_momentum)


# --- Adam, AdaMax ---
def _adam(
    t: Terms, attrs: Any, var: Any, m: Any, v: Any, beta1_power: Any, beta2_power: Any, lr: Any, beta1: Any, beta2: Any,
    epsilon: Any, grad: Any,
) -> Sequence[Any]:  # fmt: skip
    alpha = t.div(t.mul(lr, t.sqrt(t.sub(1, beta2_power))), t.sub(1, beta1_power))
    m, v = t.toward(m, grad, beta1), t.toward(v, t.square(grad), beta2)
    ahead = m
    if attrs["use_nesterov"]:
        ahead = t.add(t.mul(grad, t.sub(1, beta1)), t.mul(beta1, m))
    return t.sub(var, t.div(t.mul(ahead, alpha), t.add(t.sqrt(v), epsilon))), m, v


optimizer("Adam", "var m v",
          "beta1_power: T, beta2_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T",
          "use_nesterov: bool = False", _adam, sparse=False)  # fmt: skip


def _ada_max(
    t: Terms, attrs: Any, var: Any, m: Any, v: Any, beta1_power: Any, lr: Any, beta1: Any, beta2: Any, epsilon: Any,
    grad: Any,
) -> Sequence[Any]:  # fmt: skip
    m = t.toward(m, grad, beta1)
    v = t.op("Maximum", t.mul(beta2, v), t.op("Abs", grad))
    return t.sub(var, t.mul(t.div(lr, t.sub(1, beta1_power)), t.div(m, t.add(v, epsilon)))), m, v


optimizer("AdaMax", "var m v", "beta1_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T", "", _ada_max,
          sparse=False)  # fmt: skip


# --- Adagrad, AdagradV2, ProximalAdagrad, AdagradDA ---
def _squares(t: Terms, attrs: Any, accum: Any, grad: Any) -> Any:
    return t.add(accum, t.square(grad)) if attrs["update_slots"] else accum


def _adagrad(t: Terms, attrs: Any, var: Any, accum: Any, lr: Any, grad: Any) -> Sequence[Any]:
    accum = _squares(t, attrs, accum, grad)
    return t.sub(var, t.mul(t.mul(grad, lr), t.rsqrt(accum))), accum


def _adagrad_v2(t: Terms, attrs: Any, var: Any, accum: Any, lr: Any, epsilon: Any, grad: Any) -> Sequence[Any]:
    accum = _squares(t, attrs, accum, grad)
    return t.sub(var, t.div(t.mul(grad, lr), t.add(t.sqrt(accum), epsilon))), accum


def _proximal_adagrad(
    t: Terms, attrs: Any, var: Any, accum: Any, lr: Any, l1: Any, l2: Any, grad: Any
) -> Sequence[Any]:
    accum = t.add(accum, t.square(grad))
    rate = t.mul(t.rsqrt(accum), lr)
    return _proximal(t, t.sub(var, t.mul(grad, rate)), rate, l1, l2), accum


def _adagrad_da(
    t: Terms, attrs: Any, var: Any, total: Any, squares: Any, grad: Any, lr: Any, l1: Any, l2: Any, global_step: Any
) -> Sequence[Any]:
    steps = t.x.op("Cast", global_step, SrcT=t.x.type(global_step).dtype, DstT=t.dtype)
    total, squares = t.add(total, grad), t.add(squares, t.square(grad))
    pull = t.mul(t.shrunk(total, t.mul(l1, steps)), lr)
    return t.op("Neg", t.div(pull, t.add(t.mul(l2, steps, lr), t.sqrt(squares)))), total, squares


_SLOTS = "update_slots: bool = True"
optimizer("Adagrad", "var accum", "lr: T, grad: T", _SLOTS, _adagrad)
optimizer("AdagradV2", "var accum", "lr: T, epsilon: T, grad: T", _SLOTS, _adagrad_v2)
optimizer("ProximalAdagrad", "var accum", "lr: T, l1: T, l2: T, grad: T", "", _proximal_adagrad)
optimizer("AdagradDA", "var gradient_accumulator gradient_squared_accumulator",
          "grad: T, lr: T, l1: T, l2: T, global_step: int64", "", _adagrad_da)  # fmt: skip


# --- Adadelta ---
def _adadelta(
    t: Terms, attrs: Any, var: Any, accum: Any, accum_update: Any, lr: Any, rho: Any, epsilon: Any, grad: Any
) -> Sequence[Any]:
    accum = t.add(t.mul(accum, rho), t.mul(t.square(grad), t.sub(1, rho)))
    update = t.mul(t.sqrt(t.add(accum_update, epsilon)), t.rsqrt(t.add(accum, epsilon)), grad)
    accum_update = t.add(t.mul(accum_update, rho), t.mul(t.square(update), t.sub(1, rho)))
    return t.sub(var, t.mul(update, lr)), accum, accum_update


optimizer("Adadelta", "var accum accum_update", "lr: T, rho: T, epsilon: T, grad: T", "", _adadelta)


# --- RMSProp, CenteredRMSProp ---
def _rms_prop(
    t: Terms, attrs: Any, var: Any, ms: Any, mom: Any, lr: Any, rho: Any, momentum: Any, epsilon: Any, grad: Any
) -> Sequence[Any]:
    ms = t.toward(ms, t.square(grad), rho)
    mom = t.add(t.mul(mom, momentum), t.div(t.mul(grad, lr), t.sqrt(t.add(ms, epsilon))))
    return t.sub(var, mom), ms, mom


def _centered_rms_prop(
    t: Terms, attrs: Any, var: Any, mg: Any, ms: Any, mom: Any, lr: Any, rho: Any, momentum: Any, epsilon: Any,
    grad: Any,
) -> Sequence[Any]:  # fmt: skip
    ms, mg = t.toward(ms, t.square(grad), rho), t.toward(mg, grad, rho)
    spread = t.add(t.sub(ms, t.square(mg)), epsilon)
    mom = t.add(t.mul(mom, momentum), t.div(t.mul(grad, lr), t.sqrt(spread)))
    return t.sub(var, mom), mg, ms, mom


_RMS = "lr: T, rho: T, momentum: T, epsilon: T, grad: T"
optimizer("RMSProp", "var ms mom", _RMS, "", _rms_prop)
optimizer("CenteredRMSProp", "var mg ms mom", _RMS, "", _centered_rms_prop)


# --- Ftrl, FtrlV2 ---
def _ftrl(
    t: Terms, attrs: Any, var: Any, accum: Any, linear: Any, grad: Any, lr: Any, l1: Any, l2: Any, lr_power: Any,
    pulled: Any = None,
) -> Sequence[Any]:  # fmt: skip
    power = t.op("Neg", lr_power)
    new_accum = t.add(accum, t.square(grad))
    rates = [t.sqrt(each) if t.number(lr_power) == -0.5 else t.op("Pow", each, power) for each in (new_accum, accum)]
    rate, old_rate = rates
    pulled = grad if pulled is None else pulled
    if attrs["multiply_linear_by_lr"]:
        linear = t.add(linear, t.sub(t.mul(pulled, lr), t.mul(t.sub(rate, old_rate), var)))
        bound, quadratic = t.mul(l1, lr), t.add(rate, t.mul(2, l2, lr))
    else:
        linear = t.add(linear, t.sub(pulled, t.mul(t.div(t.sub(rate, old_rate), lr), var)))
        bound, quadratic = l1, t.add(t.div(rate, lr), t.mul(2, l2))
    return t.op("Neg", t.div(t.shrunk(linear, bound), quadratic)), new_accum, linear


def _ftrl_v2(
    t: Terms, attrs: Any, var: Any, accum: Any, linear: Any, grad: Any, lr: Any, l1: Any, l2: Any, shrinkage: Any,
    lr_power: Any,
) -> Sequence[Any]:  # fmt: skip
    pulled = t.add(grad, t.mul(2, shrinkage, var))
    return _ftrl(t, attrs, var, accum, linear, grad, lr, l1, l2, lr_power, pulled)


_BY_LR = "multiply_linear_by_lr: bool = False"
optimizer("Ftrl", "var accum linear", "grad: T, lr: T, l1: T, l2: T, lr_power: T", _BY_LR, _ftrl)
optimizer("FtrlV2", "var accum linear", "grad: T, lr: T, l1: T, l2: T, l2_shrinkage: T, lr_power: T", _BY_LR, _ftrl_v2)


# --- AddSign, PowerSign ---
def _sign_agreement(t: Terms, m: Any, beta: Any, grad: Any) -> tuple[Any, Any]:
    m = t.add(t.mul(m, beta), t.mul(grad, t.sub(1, beta)))
    return m, t.mul(t.op("Sign", grad), t.op("Sign", m))


def _add_sign(
    t: Terms, attrs: Any, var: Any, m: Any, lr: Any, alpha: Any, sign_decay: Any, beta: Any, grad: Any
) -> Sequence[Any]:
    m, agreement = _sign_agreement(t, m, beta, grad)
    return t.sub(var, t.mul(lr, t.add(alpha, t.mul(sign_decay, agreement)), grad)), m


def _power_sign(
    t: Terms, attrs: Any, var: Any, m: Any, lr: Any, logbase: Any, sign_decay: Any, beta: Any, grad: Any
) -> Sequence[Any]:
    m, agreement = _sign_agreement(t, m, beta, grad)
    return t.sub(var, t.mul(lr, t.op("Exp", t.mul(logbase, sign_decay, agreement)), grad)), m


optimizer("AddSign", "var m", "lr: T, alpha: T, sign_decay: T, beta: T, grad: T", "", _add_sign, sparse=False)
optimizer("PowerSign", "var m", "lr: T, logbase: T, sign_decay: T, beta: T, grad: T", "", _power_sign, sparse=False)
