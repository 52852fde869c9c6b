"""Numbers rounded as quantisation to a few bits would round them, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.tensor import Operation, Tensor


def fake_quant_with_min_max_args(
    inputs: Any, min: float = -6, max: float = 6, num_bits: int = 8, narrow_range: bool = False, name: str | None = None
) -> Tensor:
    """The inputs rounded to the steps that `num_bits` bits between `min` and `max` give."""
    return apply_op(
        "FakeQuantWithMinMaxArgs", inputs=inputs, min=min, max=max, num_bits=num_bits, narrow_range=narrow_range,
        name=name,
    )  # fmt: skip


def fake_quant_with_min_max_args_gradient(
    gradients: Any,
    inputs: Any,
    min: float = -6,
    max: float = 6,
    num_bits: int = 8,
    narrow_range: bool = False,
    name: str | None = None,
) -> Tensor:
    """The gradients where the inputs are within the range, zero elsewhere."""
    return apply_op(
        "FakeQuantWithMinMaxArgsGradient", gradients=gradients, inputs=inputs, min=min, max=max, num_bits=num_bits,
        narrow_range=narrow_range, name=name,
    )  # fmt: skip


def fake_quant_with_min_max_vars(
    inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False, name: str | None = None
) -> Tensor:
    """`fake_quant_with_min_max_args` between scalar tensors."""
    return _fake_quant("FakeQuantWithMinMaxVars", inputs, min, max, num_bits, narrow_range, name)


def fake_quant_with_min_max_vars_per_channel(
    inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False, name: str | None = None
) -> Tensor:
    """`fake_quant_with_min_max_args` with a range for each index on the last axis."""
    return _fake_quant("FakeQuantWithMinMaxVarsPerChannel", inputs, min, max, num_bits, narrow_range, name)


def _fake_quant(
    kind: str, inputs: Any, min: Any, max: Any, num_bits: int, narrow_range: bool, name: str | None, **more: Any
) -> Any:
    return apply_op(
        kind, inputs=inputs, min=min, max=max, num_bits=num_bits, narrow_range=narrow_range, name=name, **more
    )


def fake_quant_with_min_max_vars_gradient(
    gradients: Any, inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False,
    name: str | None = None,
) -> list[Tensor]:  # fmt: skip
    """The gradients of `fake_quant_with_min_max_vars` by its inputs, `min` and `max`."""
    kind = "FakeQuantWithMinMaxVarsGradient"
    found: list[Tensor] = _fake_quant(kind, inputs, min, max, num_bits, narrow_range, name, gradients=gradients)
    return found


def fake_quant_with_min_max_vars_per_channel_gradient(
    gradients: Any, inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False,
    name: str | None = None,
) -> list[Tensor]:  # fmt: skip
    """The gradients of `fake_quant_with_min_max_vars_per_channel` by its inputs, `min` and `max`."""
    kind = "FakeQuantWithMinMaxVarsPerChannelGradient"
    found: list[Tensor] = _fake_quant(kind, inputs, min, max, num_bits, narrow_range, name, gradients=gradients)
    return found


@RegisterGradient("FakeQuantWithMinMaxArgs")
def _args_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("FakeQuantWithMinMaxArgsGradient", gradients=grad, inputs=op.inputs[0], **_options(op, True))


@RegisterGradient("FakeQuantWithMinMaxVars")
@RegisterGradient("FakeQuantWithMinMaxVarsPerChannel")
def _vars_grad(op: Operation, grad: Tensor) -> Sequence[Tensor]:
    inputs, low, high = op.inputs
    found: Sequence[Tensor] = apply_op(
        f"{op.type}Gradient", gradients=grad, inputs=inputs, min=low, max=high, **_options(op)
    )
    return found


def _options(op: Operation, ends: bool = False) -> dict[str, Any]:
    return {key: op.attrs[key] for key in ("num_bits", "narrow_range", *(("min", "max") if ends else ()))}


for _kind in ("Args", "Vars", "VarsPerChannel"):
    NotDifferentiable(f"FakeQuantWithMinMax{_kind}Gradient")
