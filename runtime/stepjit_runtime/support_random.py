"""Native functions for streams of random numbers, as IR."""

from __future__ import annotations

from stepjit_runtime import abi

PROTOTYPES = {"sj_take_blocks": "i64 @sj_take_blocks(ptr, i64)"}


def text() -> str:
    """`sj_take_blocks(stream, blocks)`: moves the stream on as kernels do; the first block taken."""
    return f"""
define i64 @sj_take_blocks(ptr %stream, i64 %blocks) {{
  %next = getelementptr i8, ptr %stream, i64 {abi.STREAM["next"]}
  %first = atomicrmw add ptr %next, i64 %blocks monotonic, align 8
  ret i64 %first
}}
"""
