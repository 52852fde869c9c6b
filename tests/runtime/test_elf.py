"""The loader of object code: what it binds, what it refuses, and that nothing stays behind."""

from __future__ import annotations

import ctypes
import gc
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stepjit_compiler import native
from stepjit_runtime import elf

pytestmark = pytest.mark.skipif(not elf.is_known(), reason="another kind of machine")

MODULE = """
@table = internal constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
@counter = internal global i64 5
@room = internal global [1000 x i64] zeroinitializer
@pointers = internal global [2 x ptr] [ptr @table, ptr @outside_data]
@outside_data = external global i64
declare i64 @outside(i64)
define i64 @pick(i64 %i) { %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
  %x = load i64, ptr %p
  ret i64 %x }
define i64 @call(i64 %x) { %y = call i64 @outside(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z }
define i64 @count() { %x = load i64, ptr @counter
  %y = add i64 %x, 1
  store i64 %y, ptr @counter
  store i64 %y, ptr getelementptr ([1000 x i64], ptr @room, i64 0, i64 999)
  ret i64 %y }
define i64 @through(i64 %i) { %p = getelementptr [2 x ptr], ptr @pointers, i64 0, i64 %i
  %q = load ptr, ptr %p
  %x = load i64, ptr %q
  ret i64 %x }
define i64 @choose(i64 %i) { switch i64 %i, label %other [
    i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e ]
a: ret i64 7
b: %x = call i64 @outside(i64 1)
  ret i64 %x
c: ret i64 -1
d: %y = load i64, ptr @counter
  ret i64 %y
e: %z = call i64 @outside(i64 2)
  ret i64 %z
other: ret i64 0 }
define double @half(double %x) { %y = fmul double %x, 0.5
  ret double %y }
"""

NUMBER = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
double = NUMBER(lambda x: 2 * x)
outside_data = ctypes.c_int64(-77)
OUTSIDE = {
    "outside": ctypes.cast(double, ctypes.c_void_p).value or 0, "outside_data": ctypes.addressof(outside_data),
}  # fmt: skip


@pytest.fixture(scope="module")
def code() -> bytes:
    return native.compile_module(MODULE)


def test_code_and_data_are_bound(code: bytes) -> None:
    image = elf.load(code, OUTSIDE.__getitem__)

    def function(name: str) -> ctypes._FuncPointer:
        return NUMBER(image.symbols[name])

    assert [function("pick")(i) for i in range(4)] == [10, 20, 30, 40]
    assert function("call")(21) == 43
    assert [function("count")(0) for _ in range(3)] == [6, 7, 8]
    assert (function("through")(0), function("through")(1)) == (10, -77)
    assert [function("choose")(i) for i in range(6)] == [7, 2, -1, 8, 4, 0]
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(image.symbols["half"])(3.0) == 1.5


def test_images_do_not_share_data(code: bytes) -> None:
    one, other = (elf.load(code, OUTSIDE.__getitem__) for _ in range(2))
    assert [NUMBER(image.symbols["count"])(0) for image in (one, one, other)] == [6, 7, 6]


def test_missing_names_are_told(code: bytes) -> None:
    with pytest.raises(KeyError, match="outside"):
        elf.load(code, {}.__getitem__)


def test_code_is_not_writable_and_data_not_executable(code: bytes) -> None:
    image = elf.load(code, OUTSIDE.__getitem__)
    modes = {}
    start = image.symbols["pick"] & -4096
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(text, 16) for text in line.split()[0].split("-"))
        if low <= start < high or start <= low < start + image.size:
            modes[low] = line.split()[1]
    assert modes[start] == "r-xp"
    assert not [mode for mode in modes.values() if "w" in mode and "x" in mode]


def test_nothing_stays_behind(code: bytes) -> None:
    def maps() -> int:
        gc.collect()
        return len(Path("/proc/self/maps").read_text().splitlines())

    elf.load(code, OUTSIDE.__getitem__)
    before = maps()
    for _ in range(300):
        elf.load(code, OUTSIDE.__getitem__)
    with pytest.raises(KeyError):
        elf.load(code, {}.__getitem__)
    assert maps() <= before + 1


FUZZ = """
import random, sys
sys.path[:0] = {path!r}
from stepjit_runtime import elf
code, rng = open({file!r}, "rb").read(), random.Random(3)
outcomes = dict.fromkeys(["loaded", "Damaged", "Unsupported"], 0)
for _ in range(3000):
    data = bytearray(code)
    if rng.random() < 0.3:
        del data[rng.randrange(8, len(data)) :]
    for _ in range(rng.randrange(1, 4)):
        # The tables, at the start and end of the file, are what the loader goes by.
        at = rng.randrange(len(data)) if rng.random() < 0.5 else -rng.randrange(1, len(data) // 2 + 1)
        data[at] = rng.randrange(256)
    try:
        elf.load(bytes(data), lambda name: 1 << 20)
        outcomes["loaded"] += 1
    except (elf.Damaged, elf.Unsupported) as error:
        outcomes[type(error).__name__] += 1
print(outcomes)
assert all(outcomes.values()), outcomes
"""


def test_damaged_objects_are_refused_or_harmless(code: bytes, tmp_path: Path) -> None:
    # In a process of its own, which would not survive a read or write out of bounds.
    file = tmp_path / "code.o"
    file.write_bytes(code)
    script = FUZZ.format(path=sys.path, file=str(file))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_object_is_refused() -> None:
    for data in (b"", b"\x7fELF", bytes(1000), random.Random(0).randbytes(5000)):
        with pytest.raises(elf.Damaged):
            elf.load(data, OUTSIDE.__getitem__)
