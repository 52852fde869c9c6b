"""The shape of the code base: who imports whom, what an import loads, sizes, machine paths, ops that lack a part."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepjit_compiler import opdef
from stepjit_compiler.ops.control_v1 import V1
from stepjit_compiler.ops.tensor_array_v3 import ARRAYS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "stepjit": ROOT / "src" / "stepjit",
    "stepjit_compiler": ROOT / "compiler" / "stepjit_compiler",
    "stepjit_runtime": ROOT / "runtime" / "stepjit_runtime",
}
FORBIDDEN = {
    "stepjit": set[str](),
    "stepjit_compiler": {"stepjit"},
    "stepjit_runtime": {"stepjit", "stepjit_compiler"},
}
LONGEST_FILE = 600
PRUNED_AWAY = {
    "IsVariableInitialized", "ReadVariableOp", "VarHandleOp", "VarIsInitializedOp", "Variable", "VariableV2",
}  # fmt: skip
"""Ops that are turned into the values of slots before anything computes; they need neither reference nor lowering."""
HOLD_REGIONS = {
    "Case", "If", "PartitionedCall", "StatefulPartitionedCall", "StatelessCase", "StatelessIf", "StatelessWhile", "While",
}  # fmt: skip
"""Ops that are turned into `_If` and `_While` of Steps, or whose functions an import puts in their place."""


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def sources() -> list[Path]:
    return files(*PACKAGES.values(), ROOT / "tests", ROOT / "benchmarks")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, first part of the name) of each absolute import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files(PACKAGES[package])
        for line, name in imports(path)
        if name in FORBIDDEN[package]
    ]
    assert wrong == []


def test_networkx_has_one_place() -> None:
    users = {path.name for path in files(*PACKAGES.values()) if any(name == "networkx" for _, name in imports(path))}
    assert users == {"analyse.py"}


@pytest.mark.parametrize("module", ["stepjit", "stepjit.compat.v1", "stepjit.cli"])
def test_an_import_loads_no_compiler_libraries(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('networkx', 'llvmlite', 'rich') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path.parent) for path in PACKAGES.values())}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_FILE} == {}


def test_modules_say_what_they_are() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in files(*PACKAGES.values())
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_path_of_a_machine() -> None:
    home = re.compile(r"(?<![\w.])/(?:home|root|Users|work|opt)/\w")
    texts = [*sources(), *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / ".ci").glob("*")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if home.search(line)
    ]
    assert found == []


def test_every_op_has_its_parts() -> None:
    ops = opdef.registered().values()
    assert [op.name for op in ops if op.infer is None] == []
    lacking = {op.name for op in ops if op.reference is None and op.lower is None}
    # Ops that only prune makes begin with an underscore, and are known to it and to the session's host.
    assert {name for name in lacking if not name.startswith("_")} == PRUNED_AWAY | HOLD_REGIONS | V1 | ARRAYS


def test_every_op_is_defined_where_its_family_is() -> None:
    defined: dict[str, str] = {}
    for path in files(PACKAGES["stepjit_compiler"] / "ops"):
        for name in re.findall(r'^define\(\s*"(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
            assert name not in defined, f"{name} in {path.name} and {defined[name]}"
            defined[name] = path.name
    assert defined
