"""Native functions of steps with loops, as IR: asking Python now and then whether to go on."""

from __future__ import annotations

from stepjit_runtime import abi

PROTOTYPES = {
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


def text() -> str:
    """The functions' IR; the module declares what they call."""
    return _POLL
