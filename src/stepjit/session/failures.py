"""Failures of a step as TF's errors: with the graph's op, its shapes and the user's line."""

from __future__ import annotations

from typing import Any

from stepjit.framework import source
from stepjit_runtime.errors import OpError, OpFailure, exception_type_from_error_code


def op_error(op: Any, failure: OpFailure) -> OpError:
    """The error class of the failure's code, dressed with the op (None: no op is to blame)."""
    message = failure.message if op is None else source.dress(failure.message, op)
    kind: Any = exception_type_from_error_code(failure.code)
    found: OpError = kind(None, op, message)
    return found
