"""Regular expressions over texts, in RE2's syntax."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stepjit_compiler import regex
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_compiler.ops.arguments import brief
from stepjit_compiler.ops.strings import texts


def _compiled(call: Call, pattern: bytes) -> re.Pattern[str]:
    try:
        return regex.compile_pattern(pattern)
    except regex.RegexError as error:
        call.fail(f"Invalid pattern: {pattern.decode(errors='replace')}, error: {error}")


def _replaced(call: Call, array: np.ndarray, pattern: bytes, rewrite: bytes) -> np.ndarray:
    compiled, new = _compiled(call, pattern), regex.decode(rewrite)
    everywhere = call.attrs["replace_global"]
    results = (
        regex.encode(regex.replace(compiled, regex.decode(text), new, everywhere)) for text in array.reshape(-1)
    )
    return texts(results, array.shape)


def _matched(call: Call, array: np.ndarray, pattern: bytes) -> np.ndarray:
    compiled = _compiled(call, pattern)
    found = [compiled.fullmatch(regex.decode(text)) is not None for text in array.reshape(-1)]
    return np.array(found, bool).reshape(array.shape)


def _scalars(x: Inference) -> list[ShapeLike]:
    for i in range(1, x.count()):
        x.with_rank(i, 0)
    return [x.shape(0)]


def _scalar(call: Call, name: str, array: np.ndarray) -> bytes:
    if array.ndim:
        call.fail(f"{name} must be scalar, but received {brief(array.shape)}")
    found: bytes = array.item()
    return found


def _replace(call: Call, array: np.ndarray, pattern: np.ndarray, rewrite: np.ndarray) -> np.ndarray:
    return _replaced(call, array, _scalar(call, "Pattern", pattern), _scalar(call, "Rewrite", rewrite))


def _full_match(call: Call, array: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    return _matched(call, array, _scalar(call, "Pattern", pattern))


def _static_replace(call: Call, array: np.ndarray) -> Any:
    return _replaced(call, array, call.attrs["pattern"], call.attrs["rewrite"])


# --- RegexReplace, RegexFullMatch, and each with patterns that are attrs ---
define("RegexReplace", "input: string, pattern: string, rewrite: string -> output: string",
       "replace_global: bool = True", infer=_scalars, reference=_replace)  # fmt: skip
define("StaticRegexReplace", "input: string -> output: string",
       "pattern: string, rewrite: string, replace_global: bool = True", infer=unchanged,
       reference=_static_replace)  # fmt: skip
define("RegexFullMatch", "input: string, pattern: string -> output: bool", infer=_scalars, reference=_full_match)
define("StaticRegexFullMatch", "input: string -> output: bool", "pattern: string", infer=unchanged,
       reference=lambda call, array: _matched(call, array, call.attrs["pattern"]))  # fmt: skip
