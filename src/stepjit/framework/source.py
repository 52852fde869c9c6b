"""Where the user made an op: the nearest frame outside the stepjit packages, and errors that name it."""

from __future__ import annotations

import contextlib
import os
import sys
from types import CodeType, FrameType
from typing import Any

import stepjit_compiler
import stepjit_runtime

_ROOTS = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep
    for path in (os.path.dirname(os.path.abspath(__file__)), stepjit_compiler.__file__, stepjit_runtime.__file__)
)
_OURS: dict[str, bool] = {}
"""Files of the packages; users' files are not kept, for they come and go (notebooks)."""


def user_place(depth: int = 1) -> tuple[CodeType, int] | None:
    """The user's code and the instruction it is at; cheap, see `line` for its text."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        if not (_OURS.get(code.co_filename) or _is_ours(code.co_filename)):
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def _is_ours(name: str) -> bool:
    if name.startswith(_ROOTS) or name == contextlib.__file__ or name.startswith("<frozen"):
        _OURS[name] = True
        return True
    return False


def line(place: tuple[CodeType, int] | None) -> str:
    """`train.py:41` for a place of `user_place`."""
    if place is None:
        return ""
    code, instruction = place
    number = code.co_firstlineno
    for start, end, at in code.co_lines():
        if start <= instruction < end and at is not None:
            number = at
    return f"{os.path.basename(code.co_filename)}:{number}"


def describe(op: Any) -> str:
    """`node 'fc1/MatMul' made at train.py:41`, for error texts."""
    at = op.traceback_line
    return f"node '{op.name}' made at {at}" if at else f"node '{op.name}'"


def dress(message: str, op: Any) -> str:
    """A kernel's text with the op's name, the user's line and TF's trailer."""
    return f"{message}\n\t{describe(op)}\n\t [[{{{{node {op.name}}}}}]]"
