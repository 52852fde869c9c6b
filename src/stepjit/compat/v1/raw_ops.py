"""tf.raw_ops: every op type as a function of its inputs and attrs by keyword, straight from its definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit_compiler import opdef


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_") or opdef.lookup(name) is None:
        raise AttributeError(f"module 'raw_ops' has no op {name!r}")
    return partial(apply_op, name)


def __dir__() -> list[str]:
    return sorted(name for name in opdef.registered() if not name.startswith("_"))
