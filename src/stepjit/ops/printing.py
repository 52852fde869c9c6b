"""`Print` and `print`: what tensors hold, printed when a step runs the op."""

from __future__ import annotations

import builtins
import pprint
import sys
from collections.abc import Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.apply import apply_op
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.strings import format as string_format


def Print(  # noqa: N802 - the public name
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor:
    """`input_` itself; a step that computes it prints `message` and `data` on the standard error.

    first_n: only that many times in a session. summarize: how many elements of each tensor, 3 by default.
    """
    return apply_op(
        "Print", input=input_, data=list(data), message=message or "", name=name,
        first_n=-1 if first_n is None else first_n, summarize=3 if summarize is None else summarize,
    )  # fmt: skip


@RegisterGradient("Print")
def _print_grad(op: Operation, grad: Tensor) -> list[Any]:
    return [grad] + [None] * (len(op.inputs) - 1)


_STREAMS = {"stdout", "stderr", "log(info)", "log(warning)", "log(error)"}
_GAP = "_StepjitTensor_"


def print(*inputs: Any, **kwargs: Any) -> Operation:
    """An op that prints values and structures of tensors, joined by `sep` and ended by `end`.

    output_stream: `sys.stderr` (default), `sys.stdout`, `log(info)` and such, or `file://path`. summarize: how many
    elements at both ends of each dimension, 3 by default, -1 for all. ValueError for other streams and keywords.
    """
    stream = kwargs.pop("output_stream", sys.stderr)
    end, sep = kwargs.pop("end", "\n"), kwargs.pop("sep", " ")
    summarize, name = kwargs.pop("summarize", 3), kwargs.pop("name", None)
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments for tf.print: {builtins.list(kwargs)}")
    target = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}.get(id(stream), stream)
    if not isinstance(target, str) or (target not in _STREAMS and not target.startswith("file://")):
        raise ValueError(f"Unsupported output stream, logging level, or file {stream!r}")
    with name_scope(name, "print"):
        texts, tensors = [], []
        for value in inputs:
            tensors += [leaf for leaf in nest.flatten(value) if isinstance(leaf, Tensor)]
            texts.append(_text(value))
        line = string_format(sep.join(texts), tensors, placeholder=_GAP, summarize=summarize)
        return apply_op("PrintV2", input=line, output_stream=target, end=end, name="PrintV2")


class _Gap:
    """Where a tensor's elements go."""

    def __repr__(self) -> str:
        return _GAP


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor):
        return _GAP
    shown = nest.map_structure(lambda leaf: _Gap() if isinstance(leaf, Tensor) else leaf, value)
    return pprint.pformat(shown)
