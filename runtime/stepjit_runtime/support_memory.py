"""Native functions for steps that run out of memory, as IR."""

from __future__ import annotations

from stepjit_runtime import abi

PROTOTYPES = {
    "sj_lost": "void @sj_lost(ptr) cold",
}
"""What steps declare, by name."""

# Python's error is set. Where memory was lacking, `fail` makes a better one: it is called with failure -1 and, in the
# place of `at`, the error's value (None where there is none).
_LOST = f"""
define void @sj_lost(ptr %context) {{
entry:
  %cell = alloca [3 x ptr]
  %memory = call i32 @PyErr_ExceptionMatches(ptr @PyExc_MemoryError)
  %other = icmp eq i32 %memory, 0
  br i1 %other, label %done, label %take
take:
  %vp = getelementptr ptr, ptr %cell, i64 1
  %tp = getelementptr ptr, ptr %cell, i64 2
  call void @PyErr_Fetch(ptr %cell, ptr %vp, ptr %tp)
  call void @PyErr_NormalizeException(ptr %cell, ptr %vp, ptr %tp)
  %kind = load ptr, ptr %cell
  call void @Py_DecRef(ptr %kind)
  %trace = load ptr, ptr %tp
  call void @Py_DecRef(ptr %trace)
  %found = load ptr, ptr %vp
  %bare = icmp eq ptr %found, null
  br i1 %bare, label %none, label %tell
none:
  call void @Py_IncRef(ptr @Py_None)
  br label %tell
tell:
  %value = phi ptr [ %found, %take ], [ @Py_None, %none ]
  %all = call ptr @PyTuple_New(i64 4)
  %starved = icmp eq ptr %all, null
  br i1 %starved, label %done, label %fill
fill:
  %number = call ptr @PyLong_FromLongLong(i64 -1)
  call i32 @PyTuple_SetItem(ptr %all, i64 0, ptr %number)
  call i32 @PyTuple_SetItem(ptr %all, i64 1, ptr %value)
  %zero = call ptr @PyLong_FromLongLong(i64 0)
  call i32 @PyTuple_SetItem(ptr %all, i64 2, ptr %zero)
  %bound = call ptr @PyLong_FromLongLong(i64 0)
  call i32 @PyTuple_SetItem(ptr %all, i64 3, ptr %bound)
  %fp = getelementptr i8, ptr %context, i64 {abi.CONTEXT["fail"]}
  %fail = load ptr, ptr %fp
  %result = call ptr @PyObject_CallObject(ptr %fail, ptr %all)
  call void @Py_DecRef(ptr %all)
  br label %done
done:
  ret void
}}
"""


def text() -> str:
    """The functions' IR."""
    return _LOST
