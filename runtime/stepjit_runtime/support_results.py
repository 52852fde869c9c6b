"""Native functions that make a step's results, as IR: arrays and numpy scalars that nobody holds any more serve again.

An executable keeps the last two objects of each result. One whose only reference is the executable's own is out of
everybody else's reach, so it can be handed out again: a new array costs 75 ns, a kept one 5.
"""

from __future__ import annotations

from stepjit_runtime import abi

PROTOTYPES = {
    "sj_array": "ptr @sj_array(ptr, i32, ptr, ptr, i64)",
    "sj_scalar": "ptr @sj_scalar(ptr, ptr, ptr, i64)",
}
"""What steps declare, by name."""

_NEW_FLAGS = 0x1 | 0x4 | 0x100 | 0x400
"""C-contiguous, owning its data, aligned, writeable: users may have changed what they no longer hold."""

# A kept array as it would be made, or null. `shape` has `nd` numbers.
_USABLE = f"""
define internal i1 @sj_usable(ptr %array, i32 %nd, ptr %shape, ptr %descr) alwaysinline {{
entry:
  %none = icmp eq ptr %array, null
  br i1 %none, label %no, label %count
count:
  %refs = load i64, ptr %array
  %only = icmp eq i64 %refs, 1
  br i1 %only, label %look, label %no
look:
  %fp = getelementptr i8, ptr %array, i64 {abi.ARRAY["flags"]}
  %flags = load i32, ptr %fp
  %kept = and i32 %flags, {_NEW_FLAGS}
  %untouched = icmp eq i32 %kept, {_NEW_FLAGS}
  %wp = getelementptr i8, ptr %array, i64 {abi.ARRAY["weakrefs"]}
  %weak = load ptr, ptr %wp
  %unwatched = icmp eq ptr %weak, null
  %dp = getelementptr i8, ptr %array, i64 {abi.ARRAY["descr"]}
  %its = load ptr, ptr %dp
  %alike = icmp eq ptr %its, %descr
  %np = getelementptr i8, ptr %array, i64 {abi.ARRAY["nd"]}
  %n = load i32, ptr %np
  %flat = icmp eq i32 %n, %nd
  %a1 = and i1 %untouched, %unwatched
  %a2 = and i1 %alike, %flat
  %a3 = and i1 %a1, %a2
  br i1 %a3, label %dims, label %no
dims:
  %ep = getelementptr i8, ptr %array, i64 {abi.ARRAY["dims"]}
  %extents = load ptr, ptr %ep
  br label %head
head:
  %i = phi i32 [ 0, %dims ], [ %i1, %same ]
  %more = icmp slt i32 %i, %nd
  br i1 %more, label %body, label %yes
body:
  %xp = getelementptr i64, ptr %extents, i32 %i
  %x = load i64, ptr %xp
  %yp = getelementptr i64, ptr %shape, i32 %i
  %y = load i64, ptr %yp
  %equal = icmp eq i64 %x, %y
  %i1 = add i32 %i, 1
  br i1 %equal, label %same, label %no
same:
  br label %head
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

# Forgetting an object may run code of the user's (of a weak reference), which may run this step: it comes last.
_KEEP = """
define internal void @sj_keep(ptr %kept, ptr %object) alwaysinline {
  %second = getelementptr ptr, ptr %kept, i64 1
  %first = load ptr, ptr %kept
  %last = load ptr, ptr %second
  call void @Py_IncRef(ptr %object)
  store ptr %object, ptr %kept
  store ptr %first, ptr %second
  call void @Py_DecRef(ptr %last)
  ret void
}
"""

_ARRAY = f"""
define ptr @sj_array(ptr %kept, i32 %nd, ptr %shape, ptr %descr, i64 %bytes) {{
entry:
  %first = load ptr, ptr %kept
  %use.first = call i1 @sj_usable(ptr %first, i32 %nd, ptr %shape, ptr %descr)
  br i1 %use.first, label %have, label %look
look:
  %second = getelementptr ptr, ptr %kept, i64 1
  %other = load ptr, ptr %second
  %use.other = call i1 @sj_usable(ptr %other, i32 %nd, ptr %shape, ptr %descr)
  br i1 %use.other, label %have, label %make
have:
  %found = phi ptr [ %first, %entry ], [ %other, %look ]
  call void @Py_IncRef(ptr %found)
  ret ptr %found
make:
  call void @Py_IncRef(ptr %descr)
  %new = call ptr @PyArray_Empty(i32 %nd, ptr %shape, ptr %descr, i32 0)
  %lost = icmp eq ptr %new, null
  %large = icmp ugt i64 %bytes, {abi.KEPT_BYTES}
  %leave = or i1 %lost, %large
  br i1 %leave, label %done, label %keep
keep:
  call void @sj_keep(ptr %kept, ptr %new)
  br label %done
done:
  ret ptr %new
}}
"""

# A numpy scalar of a dtype whose objects are a header and the value of `bytes` bytes.
_SCALAR = f"""
define ptr @sj_scalar(ptr %kept, ptr %data, ptr %descr, i64 %bytes) {{
entry:
  %first = load ptr, ptr %kept
  %none = icmp eq ptr %first, null
  br i1 %none, label %make, label %count
count:
  %refs = load i64, ptr %first
  %only = icmp eq i64 %refs, 1
  br i1 %only, label %have, label %look
look:
  %second = getelementptr ptr, ptr %kept, i64 1
  %other = load ptr, ptr %second
  %no.other = icmp eq ptr %other, null
  br i1 %no.other, label %make, label %count.other
count.other:
  %refs.other = load i64, ptr %other
  %only.other = icmp eq i64 %refs.other, 1
  br i1 %only.other, label %have, label %make
have:
  %found = phi ptr [ %first, %count ], [ %other, %count.other ]
  %to = getelementptr i8, ptr %found, i64 {abi.SCALAR_VALUE}
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %data, i64 %bytes, i1 false)
  call void @Py_IncRef(ptr %found)
  ret ptr %found
make:
  %new = call ptr @PyArray_Scalar(ptr %data, ptr %descr, ptr null)
  %lost = icmp eq ptr %new, null
  br i1 %lost, label %done, label %keep
keep:
  call void @sj_keep(ptr %kept, ptr %new)
  br label %done
done:
  ret ptr %new
}}
"""


def text() -> str:
    """The functions' IR; the module declares what they call."""
    return _USABLE + _KEEP + _ARRAY + _SCALAR
