"""Native functions of traced steps, as IR: the clock, and what is written down with it (layout: `abi.TRACE`)."""

from __future__ import annotations

import platform

from stepjit_runtime import abi

PROTOTYPES = {
    "sj_born": "void @sj_born(ptr, i64, i64)",
    "sj_clock": "i64 @sj_clock()",
    "sj_probe": "void @sj_probe(ptr, i64)",
    "sj_traced": "void @sj_traced(ptr, i64, i64)",
    "sj_traced_inside": "void @sj_traced_inside(ptr, i64, i64)",
}
"""What steps declare (`sj_probe` is for Python, to learn what it takes to trace nothing), by name."""

_COUNTER = platform.machine() in ("x86_64", "AMD64")
"""Whether the processor's counter is read: there it runs at a constant rate and needs no call; else nanoseconds."""

_CYCLES = """
declare i64 @llvm.readcyclecounter()

define i64 @sj_clock() {
  %ticks = call i64 @llvm.readcyclecounter()
  ret i64 %ticks
}
"""

_NANOSECONDS = """
declare i32 @clock_gettime(i32, ptr)

define i64 @sj_clock() {
  %time = alloca [2 x i64]
  call i32 @clock_gettime(i32 1, ptr %time)
  %np = getelementptr i64, ptr %time, i64 1
  %seconds = load i64, ptr %time
  %rest = load i64, ptr %np
  %whole = mul i64 %seconds, 1000000000
  %ticks = add i64 %whole, %rest
  ret i64 %ticks
}
"""

_TRACE = f"""
define internal void @event(ptr %trace, i64 %room, i64 %what, i64 %a, i64 %b) {{
entry:
  %rp = getelementptr i8, ptr %trace, i64 %room
  %most = load i64, ptr %rp
  %np = getelementptr i8, ptr %trace, i64 {abi.TRACE["count"]}
  %n = load i64, ptr %np
  %fits = icmp slt i64 %n, %most
  br i1 %fits, label %put, label %lose
put:
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %np
  %ep = getelementptr i8, ptr %trace, i64 {abi.TRACE["events"]}
  %events = load ptr, ptr %ep
  %offset = mul i64 %n, {abi.TRACE_EVENT}
  %event = getelementptr i8, ptr %events, i64 %offset
  %ap = getelementptr i8, ptr %event, i64 8
  %bp = getelementptr i8, ptr %event, i64 16
  store i64 %what, ptr %event
  store i64 %a, ptr %ap
  store i64 %b, ptr %bp
  ret void
lose:
  %lp = getelementptr i8, ptr %trace, i64 {abi.TRACE["lost"]}
  %l = load i64, ptr %lp
  %l1 = add i64 %l, 1
  store i64 %l1, ptr %lp
  ret void
}}

define internal void @ran(ptr %trace, i64 %room, i64 %kernel, i64 %begin, i64 %end) {{
  %tp = getelementptr i8, ptr %trace, i64 {abi.TRACE["totals"]}
  %totals = load ptr, ptr %tp
  %offset = mul i64 %kernel, 16
  %runs = getelementptr i8, ptr %totals, i64 %offset
  %ticks = getelementptr i8, ptr %runs, i64 8
  %r = load i64, ptr %runs
  %r1 = add i64 %r, 1
  store i64 %r1, ptr %runs
  %t = load i64, ptr %ticks
  %span = sub i64 %end, %begin
  %t1 = add i64 %t, %span
  store i64 %t1, ptr %ticks
  call void @event(ptr %trace, i64 %room, i64 %kernel, i64 %begin, i64 %end)
  ret void
}}

define void @sj_traced(ptr %trace, i64 %kernel, i64 %begin) {{
  %end = call i64 @sj_clock()
  call void @ran(ptr %trace, i64 {abi.TRACE["capacity"]}, i64 %kernel, i64 %begin, i64 %end)
  ret void
}}

define void @sj_traced_inside(ptr %trace, i64 %kernel, i64 %begin) {{
  %end = call i64 @sj_clock()
  call void @ran(ptr %trace, i64 {abi.TRACE["inner"]}, i64 %kernel, i64 %begin, i64 %end)
  ret void
}}

define void @sj_born(ptr %trace, i64 %extent, i64 %number) {{
  %what = sub i64 -1, %extent
  call void @event(ptr %trace, i64 {abi.TRACE["capacity"]}, i64 %what, i64 %number, i64 0)
  ret void
}}

define void @sj_probe(ptr %trace, i64 %n) {{
entry:
  br label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ %i1, %turn ]
  %begin = call i64 @sj_clock()
  call void @sj_traced(ptr %trace, i64 0, i64 %begin)
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %turn, label %done
done:
  ret void
}}
"""


def text() -> str:
    """Part of the support module's IR."""
    return (_CYCLES if _COUNTER else _NANOSECONDS) + _TRACE


def imports() -> list[str]:
    """Names that it takes from outside."""
    return [] if _COUNTER else ["clock_gettime"]
