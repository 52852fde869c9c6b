"""Compiling to object code and linking it: names, errors, and what is left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand import callable_of, multiply_add, program

from stepjit_compiler import native
from stepjit_compiler.lower.entry import emit_entry
from stepjit_compiler.lower.entry_module import imports
from stepjit_runtime import dtypes, support
from stepjit_runtime import link as link_module
from stepjit_runtime.executable import Executable, Program
from stepjit_runtime.link import LinkError, address, link, provide
from stepjit_runtime.manifest import HostOp, Manifest, TypeText, decode, encode
from stepjit_runtime.memory_cache import MemoryCache
from stepjit_runtime.resources import Resources

ROOT = Path(__file__).parents[2]
SMALL = """
declare double @cos(double)
define ptr @step(ptr %self, ptr %args, i64 %n, ptr %names) {
  ret ptr %self
}
define ptr @run(ptr %self, ptr %args, i64 %n, ptr %names, ptr %context) {
  %x = call double @cos(double 1.0)
  ret ptr null
}
"""


@pytest.fixture(scope="module")
def small() -> Program:
    return program(*multiply_add(8))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_object_code_is_the_same_every_time(small: Program) -> None:
    assert program(*multiply_add(8)).object_code == small.object_code


def test_names_of_the_apis() -> None:
    assert address("PyArray_Type") == id(np.ndarray)
    assert address("descr_f32") == id(np.dtype(np.float32))
    assert address("descr_bool") == id(np.dtype(bool))
    assert address("scalar_i64") == id(np.int64)
    assert address("Py_None") == id(None)
    for name in ("PyArray_Empty", "PyEval_SaveThread", "memcpy", "cos", "fmodf", "sj_slow"):
        assert address(name) > 0, name
    for name in ("nonsense", "descr_f31", "sj_nonsense", "Py_Nonsense", ""):
        with pytest.raises(LinkError, match="not found"):
            address(name)


def test_provided_names() -> None:
    provide({"given_by_a_test": 4096})
    assert address("given_by_a_test") == 4096


def test_imports_are_what_the_module_declares() -> None:
    assert imports(SMALL) == ["cos"]
    text = emit_entry(*multiply_add(8))
    assert {"PyArray_Type", "descr_f32", "sj_slow", "sj_array"} <= set(imports(text))
    assert not any(name.startswith(("llvm", "k0", "step", "run")) for name in imports(text))


def test_a_missing_name_is_an_error() -> None:
    code = native.compile_module(SMALL.replace("@cos", "@no_such_function"))
    with pytest.raises(LinkError, match="no_such_function"):
        link(code, ["no_such_function"])
    with pytest.raises(LinkError, match="symbol"):
        link(code, [])


@pytest.mark.parametrize("code", [b"", b"nonsense", bytes(1000), b"\x7fELF" + bytes(500)])
def test_what_is_no_object_code_is_an_error(code: bytes) -> None:
    with pytest.raises(LinkError):
        link(code, [])


def test_cut_object_code_is_an_error(small: Program) -> None:
    for size in (100, len(small.object_code) // 2, len(small.object_code) - 100):
        with pytest.raises(LinkError):
            link(small.object_code[:size], small.manifest.imports)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("define nonsense", "parse"),
        ("define i32 @f() {\n  br label %a\na:\n  %x = add i32 %x, 1\n  ret i32 %x\n}", "verify"),
    ],
)
def test_wrong_ir_is_dumped_and_told(text: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(native.CompileError) as error:
        native.compile_module(text)
    assert error.value.stage == stage
    assert Path(error.value.dump).read_text() == text
    assert error.value.dump in str(error.value)


def test_compiles_are_counted() -> None:
    count, seconds = native.compiles()
    native.compile_module(SMALL)
    assert native.compiles()[0] == count + 1
    assert native.compiles()[1] > seconds


def test_linking_leaves_little_behind(small: Program) -> None:
    def links(count: int) -> None:
        for _ in range(count):
            link(small.object_code, small.manifest.imports)

    links(3 * link_module.LINKS_PER_ENGINE)
    gc.collect()
    before = resident()
    links(5 * link_module.LINKS_PER_ENGINE)
    gc.collect()
    assert resident() - before < 5 * link_module.LINKS_PER_ENGINE * 4096


def test_compiling_leaves_little_behind() -> None:
    text = emit_entry(*multiply_add(8))
    for _ in range(5):
        native.compile_module(text)
    before = resident()
    for _ in range(25):
        native.compile_module(text)
    assert resident() - before < 25 * 8192


def test_threads_compile_and_link_at_once() -> None:
    wrong: list[Any] = []

    def work(size: int) -> None:
        made = program(*multiply_add(size))
        step = callable_of(Executable(link(made.object_code, made.manifest.imports), made.manifest, Resources()))
        a = np.ones(size, np.float32)
        if step(a, a).tolist() != [2.0] * size:
            wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_code_is_linked_by_another_process(small: Program, tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(small.object_code)
    (tmp_path / "manifest").write_text(small.manifest.to_json())
    script = f"""
import sys
sys.path[:0] = [{str(ROOT / "runtime")!r}]
import numpy as np
from stepjit_runtime import abi, executable, link, manifest, memory_cache, resources, step_callable
assert "llvmlite" not in sys.modules
found = manifest.Manifest.from_json(open({str(tmp_path / "manifest")!r}).read())
linked = link.link(open({str(tmp_path / "code")!r}, "rb").read(), found.imports)
made = executable.Executable(linked, found, resources.Resources())
step = step_callable.StepCallable(print)
step.attach(made.context(print, print, layout=executable.Layout(abi.PACK_SINGLE, (0,))))
assert step(np.ones(8, np.float32), np.ones(8, np.float32)).tolist() == [2.0] * 8
assert "stepjit_compiler" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_support_module_declares_what_it_has() -> None:
    text = support.text()
    for name in support.exports():
        assert f"@{name}(" in text


# --- manifests ---


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2**70,
        1.5,
        float("inf"),
        1 + 2j,
        b"\x00\xff",
        "text",
        (1, (2.5, None)),
        dtypes.float32,
        {"a": (1,), "b": b""},
    ],
)
def test_attrs_survive_being_stored(value: Any) -> None:
    import json

    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=np.int16).reshape(2, 3), np.float32(2.5), np.array([b"a", b"\x00b"], object), np.zeros((0, 4)),
     np.array(b"x", object)],
)  # fmt: skip
def test_arrays_survive_being_stored(array: Any) -> None:
    import json

    array = np.asarray(array)
    found = decode(json.loads(json.dumps(encode(array))))
    assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())


def test_manifests_survive_being_stored(small: Program) -> None:
    host = HostOp("Op", {"T": dtypes.int32, "x": np.arange(3)}, (TypeText("int32", ("s0_0",)),), (), 4)
    full = Manifest(
        **{**{name: getattr(small.manifest, name) for name in small.manifest.__dataclass_fields__}, "hosts": (host,)}
    )
    found = Manifest.from_json(full.to_json())
    assert found == full
    assert found.hosts[0].attrs["T"] is dtypes.int32
    for text in ("", "{}", "[]", '["Manifest"]', '["nothing", 1]', "3"):
        with pytest.raises(ValueError):
            Manifest.from_json(text)


def test_what_can_not_be_stored_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        encode(object())


# --- the cache of this process ---


def test_equal_programs_are_made_and_linked_once(small: Program) -> None:
    cache, made = MemoryCache(), []

    def make() -> Program:
        made.append(1)
        return small

    barrier, found = threading.Barrier(8), []

    def work() -> None:
        barrier.wait()
        found.append(cache.get("key", make))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len({id(linked) for _, linked in found}) == 1
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.links, stats.programs) == (7, 1, 1, 1)


def test_a_failure_to_make_is_not_kept(small: Program) -> None:
    cache = MemoryCache()
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert cache.get("key", lambda: small)[0] is small


def test_the_least_recently_used_goes_first(small: Program) -> None:
    cache = MemoryCache(most_programs=2)
    first = cache.get("a", lambda: small)[1]
    cache.get("b", lambda: small)
    cache.get("a", lambda: small)
    cache.get("c", lambda: small)
    stats = cache.stats()
    assert (stats.programs, stats.evictions, stats.bytes) == (2, 1, 2 * small.size)
    assert cache.get("a", lambda: small)[1] is first
    cache.get("b", lambda: small)
    assert cache.stats().misses == 4
    cache.get("d", lambda: small)
    cache.get("e", lambda: small)
    assert cache.get("a", lambda: small)[1] is first  # dropped, but in use: not linked again
    tight = MemoryCache(most_bytes=small.size + 1)
    tight.get("a", lambda: small)
    tight.get("b", lambda: small)
    assert tight.stats().programs == 1
