"""stepjit runs TensorFlow-1 graphs without TensorFlow. The API is `stepjit.compat.v1`; its names are here as well."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {"profile": "profiling"}
"""What this package has beyond TensorFlow's API, and the submodules that it is in."""
_SUBMODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> Any:
    # Loaded at the first use, so that importing a submodule costs only what it needs. A submodule comes first:
    # `from stepjit import variables` asks here before it imports the file.
    if name in _SUBMODULES:
        return importlib.import_module(f"stepjit.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"stepjit.{_FUNCTIONS[name]}"), name)
    if not name.startswith("__"):
        v1 = importlib.import_module("stepjit.compat.v1")
        if hasattr(v1, name):
            return getattr(v1, name)
    raise AttributeError(f"module 'stepjit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS, *_SUBMODULES, *dir(importlib.import_module("stepjit.compat.v1"))})
