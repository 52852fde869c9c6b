"""Failures of a step as TF's errors: with the graph's op, its shapes and the user's line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepjit.framework import source
from stepjit_compiler import dims
from stepjit_runtime.errors import OpError, OpFailure, exception_type_from_error_code


def op_error(op: Any, failure: OpFailure) -> OpError:
    """The error class of the failure's code, dressed with the op (None: no op is to blame)."""
    message = failure.message if op is None else source.dress(failure.message, op)
    kind: Any = exception_type_from_error_code(failure.code)
    found: OpError = kind(None, op, message)
    return found


def extents_of(shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The numbers behind the symbols of feeds with these shapes."""
    return {f"s{j}_{axis}": extent for j, shape in enumerate(shapes) for axis, extent in enumerate(shape)}


def filled_in(message: str, values: Mapping[str, int]) -> str:
    """The message with extents in braces as numbers; `?` for those that only the running step knew."""

    def number(match: re.Match[str]) -> str:
        try:
            return str(dims.evaluate(dims.parse(match[1]), values))
        except (KeyError, ValueError):
            return "?"

    return re.sub(r"\{([^{}]+)\}", number, message)
