"""Native functions of steps with loops, as IR: asking Python now and then whether to go on, and memory that grows."""

from __future__ import annotations

from stepjit_runtime import abi

PROTOTYPES = {
    "sj_block_grow": "ptr @sj_block_grow(ptr, i64)",
    "sj_poll": "i1 @sj_poll(ptr, ptr, ptr)",
}
"""What steps declare, by name."""

POLL_TICKS = 1 << 25
"""Ticks of `sj_clock` between two looks into Python: some milliseconds."""

# Whether the step is to end, with Python's error set. `thread` is what PyEval_SaveThread gave, null with the GIL held;
# `last` holds when Python was asked last. The first call only starts the clock.
_POLL = f"""
define i1 @sj_poll(ptr %context, ptr %thread, ptr %last) {{
entry:
  %now = call i64 @sj_clock()
  %before = load i64, ptr %last
  %first = icmp eq i64 %before, 0
  br i1 %first, label %start, label %look
start:
  store i64 %now, ptr %last
  ret i1 false
look:
  %passed = sub i64 %now, %before
  %soon = icmp ult i64 %passed, {POLL_TICKS}
  br i1 %soon, label %on, label %ask
on:
  ret i1 false
ask:
  %held = icmp eq ptr %thread, null
  br i1 %held, label %call, label %take
take:
  call void @PyEval_RestoreThread(ptr %thread)
  br label %call
call:
  %pp = getelementptr i8, ptr %context, i64 {abi.CONTEXT["poll"]}
  %poll = load ptr, ptr %pp
  %result = call ptr @PyObject_CallObject(ptr %poll, ptr null)
  %ended = icmp eq ptr %result, null
  call void @Py_DecRef(ptr %result)
  br i1 %held, label %done, label %give
give:
  %state = call ptr @PyEval_SaveThread()
  br label %done
done:
  %later = call i64 @sj_clock()
  store i64 %later, ptr %last
  ret i1 %ended
}}
"""


# The memory of a block (see `sj_block_take`) with room for more bytes, at the same place or another. Pages of large
# blocks are moved, not copied; where the new place is not aligned, which only smaller ones find, it is copied once
# more. Null, and the old block as it was, when there is no more memory.
_GROW = f"""
define ptr @sj_block_grow(ptr %memory, i64 %bytes) {{
entry:
  %old = getelementptr i8, ptr %memory, i64 -{abi.BLOCK_HEADER}
  %up = add i64 %bytes, {abi.BLOCK_HEADER + 127}
  %total = and i64 %up, -64
  %moved = call ptr @realloc(ptr %old, i64 %total)
  %none = icmp eq ptr %moved, null
  br i1 %none, label %lost, label %look
look:
  %at = ptrtoint ptr %moved to i64
  %rest = and i64 %at, {abi.ALIGNMENT - 1}
  %odd = icmp ne i64 %rest, 0
  br i1 %odd, label %align, label %have
align:
  %better = call ptr @aligned_alloc(i64 64, i64 %total)
  %full = icmp eq ptr %better, null
  br i1 %full, label %have, label %copy
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %better, ptr %moved, i64 %total, i1 false)
  call void @free(ptr %moved)
  br label %have
have:
  %block = phi ptr [ %moved, %look ], [ %moved, %align ], [ %better, %copy ]
  %sp = getelementptr i8, ptr %block, i64 {abi.BLOCK_BYTES}
  store i64 %bytes, ptr %sp
  %new = getelementptr i8, ptr %block, i64 {abi.BLOCK_HEADER}
  ret ptr %new
lost:
  ret ptr null
}}
"""


def text() -> str:
    """The functions' IR; the module declares what they call."""
    return _POLL + _GROW
