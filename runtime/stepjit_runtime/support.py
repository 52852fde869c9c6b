"""Native functions that all steps share, as IR: unboxing of scalars, calls into Python, packing of results, memory.

They are made once per process, when the first step is linked, and imported by steps as `sj_<name>`. What they do is
part of the contract between stored object code and this package: a change of meaning needs a new name.
"""

from __future__ import annotations

from stepjit_runtime import (
    abi,
    dtypes,
    support_crc,
    support_loops,
    support_memory,
    support_random,
    support_results,
    support_trace,
)

PYTHON = {
    "PyArray_Empty": "ptr @PyArray_Empty(i32, ptr, ptr, i32)",
    "PyArray_Scalar": "ptr @PyArray_Scalar(ptr, ptr, ptr)",
    "PyErr_Clear": "void @PyErr_Clear()",
    "PyErr_ExceptionMatches": "i32 @PyErr_ExceptionMatches(ptr)",
    "PyErr_Fetch": "void @PyErr_Fetch(ptr, ptr, ptr)",
    "PyErr_NoMemory": "ptr @PyErr_NoMemory()",
    "PyErr_NormalizeException": "void @PyErr_NormalizeException(ptr, ptr, ptr)",
    "PyErr_Occurred": "ptr @PyErr_Occurred()",
    "PyErr_SetString": "void @PyErr_SetString(ptr, ptr)",
    "PyEval_RestoreThread": "void @PyEval_RestoreThread(ptr)",
    "PyEval_SaveThread": "ptr @PyEval_SaveThread()",
    "PyList_New": "ptr @PyList_New(i64)",
    "PyList_SetItem": "i32 @PyList_SetItem(ptr, i64, ptr)",
    "PyLong_AsDouble": "double @PyLong_AsDouble(ptr)",
    "PyLong_AsLongLongAndOverflow": "i64 @PyLong_AsLongLongAndOverflow(ptr, ptr)",
    "PyLong_FromLongLong": "ptr @PyLong_FromLongLong(i64)",
    "PyObject_CallObject": "ptr @PyObject_CallObject(ptr, ptr)",
    "PyTuple_GetItem": "ptr @PyTuple_GetItem(ptr, i64)",
    "PyTuple_New": "ptr @PyTuple_New(i64)",
    "PyTuple_SetItem": "i32 @PyTuple_SetItem(ptr, i64, ptr)",
    "PyTuple_Size": "i64 @PyTuple_Size(ptr)",
    "Py_DecRef": "void @Py_DecRef(ptr)",
    "Py_IncRef": "void @Py_IncRef(ptr)",
    "aligned_alloc": "noalias ptr @aligned_alloc(i64, i64)",
    "free": "void @free(ptr)",
    "realloc": "ptr @realloc(ptr, i64)",
    "llvm.memcpy.p0.p0.i64": "void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)",
}
DATA = (
    "PyArray_Type", "PyBool_False", "PyBool_True", "PyExc_MemoryError", "PyExc_SystemError", "PyFloat_Type",
    "PyLong_Type", "Py_None",
)  # fmt: skip
"""Names of Python objects; a symbol's address is the object's."""


PROTOTYPES = {
    "sj_aligned": "noalias ptr @sj_aligned(i64)",
    "sj_block_give": "void @sj_block_give(ptr, ptr)",
    "sj_block_take": "ptr @sj_block_take(ptr, i64)",
    "sj_boxed": "ptr @sj_boxed(i32, ptr, ptr, ptr, i64)",
    "sj_copy_objects": "void @sj_copy_objects(ptr, ptr, i64)",
    "sj_drop": "void @sj_drop(ptr, i64)",
    "sj_failed": "ptr @sj_failed(ptr, i64, ptr, i64) cold",
    "sj_host": "ptr @sj_host(ptr, i64, ptr, i64)",
    "sj_pack": "ptr @sj_pack(ptr, ptr)",
    "sj_same_dtype": "i1 @sj_same_dtype(ptr, ptr) cold",
    "sj_slow": "ptr @sj_slow(ptr, ptr, i64, ptr, i64) cold",
    "sj_unbox": "i1 @sj_unbox(ptr, ptr, ptr, i64, i64)",
    **support_loops.PROTOTYPES,
    **support_crc.PROTOTYPES,
    **support_memory.PROTOTYPES,
    **support_random.PROTOTYPES,
    **support_results.PROTOTYPES,
    **support_trace.PROTOTYPES,
}
"""What steps declare, by name."""

UNBOX_KINDS = {"f": 0, "i": 1, "u": 2, "b": 3}
"""`sj_unbox`'s numbers for the kinds of dtypes."""

UNBOXABLE = tuple(dtype for dtype in dtypes.ALL if dtype.is_integer or dtype.code in ("f32", "f64", "bool"))


def _context(name: str) -> int:
    return abi.CONTEXT[name]


_SLOW = f"""
define ptr @sj_slow(ptr %context, ptr %args, i64 %nargsf, ptr %names, i64 %reason) {{
entry:
  %n = and i64 %nargsf, {abi.REENTRY - 1}
  %bit = and i64 %nargsf, {abi.REENTRY}
  %reentry = icmp ne i64 %bit, 0
  %number = call ptr @PyLong_FromLongLong(i64 %reason)
  br i1 %reentry, label %tell, label %count
tell:
  ret ptr %number
count:
  %named = icmp ne ptr %names, null
  br i1 %named, label %more, label %make
more:
  %extra = call i64 @PyTuple_Size(ptr %names)
  br label %make
make:
  %add = phi i64 [ 0, %count ], [ %extra, %more ]
  %total = add i64 %n, %add
  %values = call ptr @PyTuple_New(i64 %total)
  %all = call ptr @PyTuple_New(i64 3)
  %none1 = icmp eq ptr %values, null
  %none2 = icmp eq ptr %all, null
  %none = or i1 %none1, %none2
  br i1 %none, label %lost, label %head
lost:
  call void @Py_DecRef(ptr %number)
  call void @Py_DecRef(ptr %values)
  call void @Py_DecRef(ptr %all)
  ret ptr null
head:
  %i = phi i64 [ 0, %make ], [ %i1, %body ]
  %more.args = icmp slt i64 %i, %total
  br i1 %more.args, label %body, label %call
body:
  %p = getelementptr ptr, ptr %args, i64 %i
  %value = load ptr, ptr %p
  call void @Py_IncRef(ptr %value)
  call i32 @PyTuple_SetItem(ptr %values, i64 %i, ptr %value)
  %i1 = add i64 %i, 1
  br label %head
call:
  %kw = select i1 %named, ptr %names, ptr @Py_None
  call void @Py_IncRef(ptr %kw)
  call i32 @PyTuple_SetItem(ptr %all, i64 0, ptr %number)
  call i32 @PyTuple_SetItem(ptr %all, i64 1, ptr %values)
  call i32 @PyTuple_SetItem(ptr %all, i64 2, ptr %kw)
  %sp = getelementptr i8, ptr %context, i64 {_context("slow")}
  %slow = load ptr, ptr %sp
  %result = call ptr @PyObject_CallObject(ptr %slow, ptr %all)
  call void @Py_DecRef(ptr %all)
  ret ptr %result
}}
"""

_FAIL = f"""
define ptr @sj_failed(ptr %context, i64 %base, ptr %status, i64 %words) {{
entry:
  %all = call ptr @PyTuple_New(i64 %words)
  %none = icmp eq ptr %all, null
  br i1 %none, label %lost, label %head
lost:
  ret ptr null
head:
  %i = phi i64 [ 0, %entry ], [ %i1, %head ]
  %p = getelementptr i64, ptr %status, i64 %i
  %raw = load i64, ptr %p
  %first = icmp eq i64 %i, 0
  %add = select i1 %first, i64 %base, i64 0
  %n = add i64 %raw, %add
  %number = call ptr @PyLong_FromLongLong(i64 %n)
  call i32 @PyTuple_SetItem(ptr %all, i64 %i, ptr %number)
  %i1 = add i64 %i, 1
  %done = icmp eq i64 %i1, %words
  br i1 %done, label %call, label %head
call:
  %fp = getelementptr i8, ptr %context, i64 {_context("fail")}
  %fail = load ptr, ptr %fp
  %result = call ptr @PyObject_CallObject(ptr %fail, ptr %all)
  call void @Py_DecRef(ptr %all)
  ret ptr %result
}}
"""

_PACK = f"""
define ptr @sj_pack(ptr %context, ptr %results) {{
entry:
  %kp = getelementptr i8, ptr %context, i64 {_context("kind")}
  %kind = load i64, ptr %kp
  %cp = getelementptr i8, ptr %context, i64 {_context("count")}
  %count = load i64, ptr %cp
  %ip = getelementptr i8, ptr %context, i64 {_context("indices")}
  %indices = load ptr, ptr %ip
  switch i64 %kind, label %nothing [
    i64 {abi.PACK_SINGLE}, label %single
    i64 {abi.PACK_LIST}, label %list
    i64 {abi.PACK_TUPLE}, label %tuple
  ]
nothing:
  call void @Py_IncRef(ptr @Py_None)
  ret ptr @Py_None
single:
  %one = call ptr @picked(ptr %results, ptr %indices, i64 0)
  ret ptr %one
list:
  %l = call ptr @PyList_New(i64 %count)
  br label %made
tuple:
  %t = call ptr @PyTuple_New(i64 %count)
  br label %made
made:
  %all = phi ptr [ %l, %list ], [ %t, %tuple ]
  %is.list = phi i1 [ true, %list ], [ false, %tuple ]
  %lost = icmp eq ptr %all, null
  br i1 %lost, label %done, label %head
head:
  %i = phi i64 [ 0, %made ], [ %i1, %placed ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %item = call ptr @picked(ptr %results, ptr %indices, i64 %i)
  br i1 %is.list, label %in.list, label %in.tuple
in.list:
  call i32 @PyList_SetItem(ptr %all, i64 %i, ptr %item)
  br label %placed
in.tuple:
  call i32 @PyTuple_SetItem(ptr %all, i64 %i, ptr %item)
  br label %placed
placed:
  %i1 = add i64 %i, 1
  br label %head
done:
  ret ptr %all
}}

define internal ptr @picked(ptr %results, ptr %indices, i64 %i) alwaysinline {{
  %p = getelementptr i64, ptr %indices, i64 %i
  %k = load i64, ptr %p
  %nothing = icmp slt i64 %k, 0
  %k0 = select i1 %nothing, i64 0, i64 %k
  %rp = getelementptr ptr, ptr %results, i64 %k0
  %r = load ptr, ptr %rp
  %item = select i1 %nothing, ptr @Py_None, ptr %r
  call void @Py_IncRef(ptr %item)
  ret ptr %item
}}
"""

_DROP = """
define void @sj_drop(ptr %objects, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i1, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %p = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %p
  call void @Py_DecRef(ptr %object)
  %i1 = add i64 %i, 1
  br label %head
done:
  ret void
}
"""

# The rest of a dtype's identity when the descr is another object, as in unpickled arrays: byte order and type number.
_SAME_DTYPE = """
define i1 @sj_same_dtype(ptr %a, ptr %b) {
  %ao = getelementptr i8, ptr %a, i64 26
  %bo = getelementptr i8, ptr %b, i64 26
  %a.order = load i8, ptr %ao
  %b.order = load i8, ptr %bo
  %order = icmp eq i8 %a.order, %b.order
  %an = getelementptr i8, ptr %a, i64 28
  %bn = getelementptr i8, ptr %b, i64 28
  %a.number = load i32, ptr %an
  %b.number = load i32, ptr %bn
  %number = icmp eq i32 %a.number, %b.number
  %same = and i1 %order, %number
  ret i1 %same
}
"""

# Blocks are {next, size}; taken and given back with the GIL held.
_BLOCKS = f"""
define ptr @sj_aligned(i64 %bytes) {{
  %up = add i64 %bytes, 127
  %rounded = and i64 %up, -64
  %block = call ptr @aligned_alloc(i64 64, i64 %rounded)
  ret ptr %block
}}

define ptr @sj_block_take(ptr %head, i64 %bytes) {{
entry:
  %first = load ptr, ptr %head
  %none = icmp eq ptr %first, null
  br i1 %none, label %make, label %look
look:
  %next = load ptr, ptr %first
  store ptr %next, ptr %head
  %sp = getelementptr i8, ptr %first, i64 {abi.BLOCK_BYTES}
  %size = load i64, ptr %sp
  %fits = icmp sge i64 %size, %bytes
  br i1 %fits, label %have, label %replace
replace:
  call void @free(ptr %first)
  br label %make
make:
  %total = add i64 %bytes, {abi.BLOCK_HEADER}
  %new = call ptr @sj_aligned(i64 %total)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %lost, label %made
made:
  %np = getelementptr i8, ptr %new, i64 {abi.BLOCK_BYTES}
  store i64 %bytes, ptr %np
  br label %have
have:
  %block = phi ptr [ %first, %look ], [ %new, %made ]
  %memory = getelementptr i8, ptr %block, i64 {abi.BLOCK_HEADER}
  ret ptr %memory
lost:
  ret ptr null
}}

define void @sj_block_give(ptr %head, ptr %memory) {{
  %block = getelementptr i8, ptr %memory, i64 -{abi.BLOCK_HEADER}
  %first = load ptr, ptr %head
  store ptr %first, ptr %block
  store ptr %block, ptr %head
  ret void
}}
"""

_COPY_OBJECTS = """
define void @sj_copy_objects(ptr %to, ptr %from, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i1, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %fp = getelementptr ptr, ptr %from, i64 %i
  %new = load ptr, ptr %fp
  %tp = getelementptr ptr, ptr %to, i64 %i
  %old = load ptr, ptr %tp
  call void @Py_IncRef(ptr %new)
  store ptr %new, ptr %tp
  call void @Py_DecRef(ptr %old)
  %i1 = add i64 %i, 1
  br label %head
done:
  ret void
}
"""

# An array of its own for a host op: a copy of native data.
_BOXED = """
define ptr @sj_boxed(i32 %nd, ptr %dims, ptr %descr, ptr %data, i64 %bytes) {
entry:
  call void @Py_IncRef(ptr %descr)
  %array = call ptr @PyArray_Empty(i32 %nd, ptr %dims, ptr %descr, i32 0)
  %lost = icmp eq ptr %array, null
  br i1 %lost, label %done, label %fill
fill:
  %dp = getelementptr i8, ptr %array, i64 16
  %to = load ptr, ptr %dp
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %data, i64 %bytes, i1 false)
  br label %done
done:
  ret ptr %array
}
"""

# The host callable's answer is checked for its form alone: a wrong one must not crash the process.
_HOST = f"""
@host.message = internal constant [44 x i8] c"a host op did not return a tuple of arrays.\\00"

define ptr @sj_host(ptr %context, i64 %k, ptr %inputs, i64 %n) {{
entry:
  %hp = getelementptr i8, ptr %context, i64 {_context("hosts")}
  %hosts = load ptr, ptr %hp
  %p = getelementptr ptr, ptr %hosts, i64 %k
  %host = load ptr, ptr %p
  %result = call ptr @PyObject_CallObject(ptr %host, ptr %inputs)
  call void @Py_DecRef(ptr %inputs)
  %failed = icmp eq ptr %result, null
  br i1 %failed, label %done, label %check
check:
  %size = call i64 @PyTuple_Size(ptr %result)
  %right = icmp eq i64 %size, %n
  br i1 %right, label %done, label %wrong, !prof !1
wrong:
  call void @Py_DecRef(ptr %result)
  call void @PyErr_Clear()
  call void @PyErr_SetString(ptr @PyExc_SystemError, ptr @host.message)
  ret ptr null
done:
  ret ptr %result
}}
"""

# Stores a Python or numpy scalar as numpy converts it; false when it must be converted by Python: floats from Python
# floats and ints, ints from ints that fit, bools from bools, and each from its own numpy scalar (`own` is its type).
# numpy's scalars are at least eight bytes long behind their head, so that eight are copied whatever their size.
_UNBOX = f"""
define i1 @sj_unbox(ptr %object, ptr %to, ptr %own, i64 %kind, i64 %bits) {{
entry:
  %tp = getelementptr i8, ptr %object, i64 {abi.ARRAY["type"]}
  %type = load ptr, ptr %tp
  %is.own = icmp eq ptr %type, %own
  br i1 %is.own, label %copy, label %other
copy:
  %vp = getelementptr i8, ptr %object, i64 {abi.SCALAR_VALUE}
  %value = load i64, ptr %vp
  br label %put
other:
  switch i64 %kind, label %no [
    i64 {UNBOX_KINDS["f"]}, label %to.float
    i64 {UNBOX_KINDS["i"]}, label %to.int
    i64 {UNBOX_KINDS["u"]}, label %to.int
    i64 {UNBOX_KINDS["b"]}, label %to.bool
  ]
to.float:
  %is.float = icmp eq ptr %type, @PyFloat_Type
  br i1 %is.float, label %float, label %maybe
float:
  %fp = getelementptr i8, ptr %object, i64 {abi.SCALAR_VALUE}
  %f = load double, ptr %fp
  br label %narrow
maybe:
  %is.int = icmp eq ptr %type, @PyLong_Type
  br i1 %is.int, label %int.float, label %no
int.float:
  %d = call double @PyLong_AsDouble(ptr %object)
  %minus = fcmp oeq double %d, -1.0
  br i1 %minus, label %sure, label %narrow
sure:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %narrow, label %large
large:
  call void @PyErr_Clear()
  br label %no
narrow:
  %wide = phi double [ %f, %float ], [ %d, %int.float ], [ %d, %sure ]
  %wide.bits = bitcast double %wide to i64
  %short = fptrunc double %wide to float
  %short.bits = bitcast float %short to i32
  %short.word = zext i32 %short.bits to i64
  %is.wide = icmp eq i64 %bits, 64
  %float.word = select i1 %is.wide, i64 %wide.bits, i64 %short.word
  br label %put
to.int:
  %int = icmp eq ptr %type, @PyLong_Type
  br i1 %int, label %number, label %no
number:
  %overflow = alloca i32
  %n = call i64 @PyLong_AsLongLongAndOverflow(ptr %object, ptr %overflow)
  %o = load i32, ptr %overflow
  %whole = icmp eq i32 %o, 0
  %signed = icmp eq i64 %kind, {UNBOX_KINDS["i"]}
  %shift = sub i64 64, %bits
  %up = shl i64 %n, %shift
  %as.signed = ashr i64 %up, %shift
  %as.unsigned = lshr i64 %up, %shift
  %back = select i1 %signed, i64 %as.signed, i64 %as.unsigned
  %same = icmp eq i64 %back, %n
  %natural = icmp sge i64 %n, 0
  %sign.fits = or i1 %signed, %natural
  %fits.1 = and i1 %whole, %same
  %fits = and i1 %fits.1, %sign.fits
  br i1 %fits, label %put, label %no
to.bool:
  %yes = icmp eq ptr %object, @PyBool_True
  %not = icmp eq ptr %object, @PyBool_False
  %either = or i1 %yes, %not
  %byte = zext i1 %yes to i64
  br i1 %either, label %put, label %no
put:
  %word = phi i64 [ %value, %copy ], [ %float.word, %narrow ], [ %n, %number ], [ %byte, %to.bool ]
  store i64 %word, ptr %to
  ret i1 true
no:
  ret i1 false
}}
"""


def text() -> str:
    """The module's IR."""
    parts = [_SLOW, _FAIL, _PACK, _DROP, _SAME_DTYPE, _BLOCKS, _COPY_OBJECTS, _BOXED, _HOST, _UNBOX]
    parts += [support_crc.text(), support_loops.text(), support_memory.text()]
    parts += [support_random.text(), support_results.text(), support_trace.text()]
    data = [f"@{name} = external global i8" for name in DATA]
    declares = ["declare " + line for line in PYTHON.values()]
    return "\n".join([*data, *declares, *parts, '!1 = !{!"branch_weights", i32 2000, i32 1}'])


def imports() -> list[str]:
    """Names that the module takes from outside."""
    names = [name for name in PYTHON if not name.startswith("llvm.")]
    return [*names, *support_trace.imports(), *DATA]


def exports() -> list[str]:
    """Names that steps may import."""
    return list(PROTOTYPES)
