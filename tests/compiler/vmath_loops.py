"""Compiles `out[i] = f(in[i], ...)` loops over the vector math functions, for tests and measurements."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_runtime import dtypes

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

Emit = Callable[..., Value]
DTYPES = {"f32": dtypes.float32, "f64": dtypes.float64}


def loop_ir(name: str, emit: Emit, code: str, lanes: int, inputs: int) -> tuple[str, set[str]]:
    """The text of one function `name(out, in..., count)` and the declarations that it needs."""
    dtype = DTYPES[code]
    b = Builder()
    pointers = [Value(f"%in{k}", None) for k in range(inputs)]
    loop = b.begin_loop(b.int64(0), Value("%count", dtypes.int64), lanes)
    loaded = [b.load(b.offset(p, dtype, loop.index), dtype, lanes) for p in pointers]
    b.store(emit(b, *loaded), b.offset(Value("%out", None), dtype, loop.index))
    b.end_loop(loop)
    b.raw("ret void")
    arguments = "".join(f"ptr noalias %in{k}, " for k in range(inputs))
    body = "\n".join(b.lines)
    return f"define void @{name}(ptr noalias %out, {arguments}i64 %count) {{\nentry:\n{body}\n}}\n", b.intrinsics


class Loops:
    """Compiled loops by (function name, dtype code, lanes); `loops(name, code, lanes, *arrays)` runs one."""

    def __init__(self, functions: dict[str, tuple[Emit, int]], widths: Sequence[int], codes: Sequence[str]) -> None:
        texts, declarations = [], set()
        for name, (emit, inputs) in functions.items():
            for code in codes:
                for lanes in widths:
                    text, needs = loop_ir(f"loop_{name}_{code}_{lanes}", emit, code, lanes, inputs)
                    texts.append(text)
                    declarations |= needs
        weights = '!0 = !{!"branch_weights", i32 1, i32 2000}'
        self.text = "\n".join([*texts, *sorted(declarations), weights])
        module = llvm.parse_assembly(self.text)
        module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic", jit=True
        )
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(module, passes)
        self.assembly = machine.emit_assembly(module)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def __call__(self, name: str, code: str, lanes: int, *arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        assert arrays[0].size % lanes == 0
        out = np.empty_like(arrays[0])
        self.pointer(name, code, lanes, len(arrays))(
            out.ctypes.data, *[array.ctypes.data for array in arrays], arrays[0].size
        )
        return out

    def pointer(self, name: str, code: str, lanes: int, inputs: int) -> Any:
        address = self._engine.get_function_address(f"loop_{name}_{code}_{lanes}")
        return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (1 + inputs), ctypes.c_int64)(address)
