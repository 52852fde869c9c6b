"""From IR text to object code: the only module of the compiler that loads LLVM, at the first compile."""

from __future__ import annotations

import os
import tempfile
import time
from functools import lru_cache
from types import ModuleType
from typing import Any

from stepjit_runtime import forking

_LOCK = forking.whole_lock()


class CompileError(Exception):
    """LLVM did not take what the compiler wrote, a bug: `stage` names the pass, `dump` the file with the IR."""

    def __init__(self, stage: str, dump: str, message: str) -> None:
        super().__init__(f"{stage} failed: {message.strip()}\nThe module was written to {dump}")
        self.stage, self.dump = stage, dump


class _Target:
    """What is made once per process: the target machine and the passes."""

    def __init__(self, llvm: ModuleType) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.version = "llvm " + ".".join(map(str, llvm.llvm_version_info))
        self.triple = llvm.get_default_triple()
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features().flatten()
        target = llvm.Target.from_triple(self.triple)
        self.machine = target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=2, reloc="pic", codemodel="default"
        )
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        self.builder = llvm.create_pass_builder(self.machine, options)
        self.passes = _passes(llvm)


def _passes(llvm: ModuleType) -> Any:
    """What code that is already written for the machine gains from.

    Without `instruction_combine` some loops run a third slower; GVN and the O1 and O2 pipelines cost 2 to 20 times as
    much and gain nothing. A hand-made list can be kept and leaks nothing; LLVM's own pipelines serve one run each.
    """
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    return passes


@lru_cache(maxsize=1)
def _target() -> _Target:
    import llvmlite.binding as llvm

    return _Target(llvm)


def compile_module(text: str) -> bytes:
    """Verified, optimised, relocatable object code of an IR module; CompileError when the module is wrong."""
    import llvmlite.binding as llvm

    with _LOCK:
        target = _target()
        started = time.perf_counter()
        try:
            module = llvm.parse_assembly(text)
        except RuntimeError as error:
            raise CompileError("parse", _dump(text), str(error)) from None
        try:
            module.triple = target.triple
            module.data_layout = str(target.machine.target_data)
            try:
                module.verify()
            except RuntimeError as error:
                raise CompileError("verify", _dump(text), str(error)) from None
            target.passes.run(module, target.builder)
            code: bytes = target.machine.emit_object(module)
        finally:
            module.close()
        _count(time.perf_counter() - started)
        return code


def assembly(text: str) -> str:
    """The machine code that an IR module becomes, as text."""
    import llvmlite.binding as llvm

    with _LOCK:
        target = _target()
        module = llvm.parse_assembly(text)
        try:
            target.passes.run(module, target.builder)
            found: str = target.machine.emit_assembly(module)
        finally:
            module.close()
        return found


_compiles = 0
_seconds = 0.0


def _count(seconds: float) -> None:
    global _compiles, _seconds
    _compiles += 1
    _seconds += seconds


def compiles() -> tuple[int, float]:
    """How many modules this process has compiled, and the seconds that took."""
    return _compiles, _seconds


def target_facts() -> tuple[str, str, str]:
    """What object code depends on beside its IR: triple, the CPU's features as LLVM lists them, LLVM's version."""
    with _LOCK:
        target = _target()
    return target.triple, target.features, target.version


def cpu_name() -> str:
    """LLVM's name of the CPU, for which code is tuned."""
    with _LOCK:
        return str(_target().cpu)


def _dump(text: str) -> str:
    handle, path = tempfile.mkstemp(".ll", "stepjit-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path
