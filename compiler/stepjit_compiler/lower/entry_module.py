"""Puts a module together: kernels, the entry, and declarations of all that stands outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from stepjit_compiler.lower import entry_text
from stepjit_compiler.lower.kernel_code import KernelCode

_NAME = re.compile(r"@([A-Za-z_][\w.$]*)")
_DEFINED = re.compile(r"^(?:define [^@\n]*|)@([A-Za-z_][\w.$]*)(?= = |\()", re.MULTILINE)
_METADATA = """
!0 = !{!"branch_weights", i32 1, i32 2000}
!1 = !{!"branch_weights", i32 2000, i32 1}
"""


def module_text(entry: str, kernels: Sequence[KernelCode], intrinsics: Iterable[str]) -> str:
    """The module of an entry; a name that nothing defines or declares is an error of the kernel's author."""
    parts = [code.text for code in kernels]
    if "@floordiv(" in entry or "@floormod(" in entry:
        parts.append(entry_text.FLOORDIV)
    text = "\n".join([*parts, entry])
    lines = [line for code in kernels for line in sorted(code.declarations)] + sorted(intrinsics)
    declared = _declarations(text, lines)
    return "\n".join([*declared, text, _METADATA])


def _declarations(text: str, lines: Iterable[str]) -> list[str]:
    found = {_name_of(line): line for line in lines}
    for name in dict.fromkeys(_NAME.findall(text)):
        if name in entry_text.DECLARATIONS:
            found.setdefault(name, "declare " + entry_text.DECLARATIONS[name])
        elif name in entry_text.DATA or name.startswith(("descr_", "scalar_")):
            found[name] = f"@{name} = external global i8"
    defined = set(_DEFINED.findall(text))
    return [line for name, line in sorted(found.items()) if name not in defined]


def _name_of(line: str) -> str:
    match = _NAME.search(line)
    assert match is not None, line
    return match[1]


def imports(text: str) -> list[str]:
    """Names of all that a module takes from outside."""
    found = set()
    for line in text.splitlines():
        if line.startswith("declare ") or " = external " in line:
            found.add(_name_of(line))
    return sorted(name for name in found if not name.startswith("llvm."))
