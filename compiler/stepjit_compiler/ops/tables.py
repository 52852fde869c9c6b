"""Lookup tables: made, filled from tensors or from a file, looked up.

Each op also has the name under which older graphs know it, with a reference to a string as the table's handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, no_outputs, scalar
from stepjit_compiler.ops.arguments import brief
from stepjit_compiler.ops.queues import handle_shape, handle_value, held, shared
from stepjit_compiler.ops.string_numbers import parse_number
from stepjit_compiler.ops.strings import texts
from stepjit_runtime import files
from stepjit_runtime.dtypes import DType
from stepjit_runtime.tables import Table

# --- HashTableV2 ---


def _opened(call: Call) -> np.ndarray:
    key, value = call.attrs["key_dtype"], call.attrs["value_dtype"]
    table, _ = shared(call, "table", lambda name: Table(name, key, value))
    _check(call, table, key, value)
    return handle_value(call, table)


def _check(call: Call, table: Table, key: DType, value: DType) -> None:
    if (table.key_dtype, table.value_dtype) != (key, value):
        call.fail(
            f"Conflicting key/value dtypes {key.name}->{value.name} with {table.key_dtype.name}->"
            f"{table.value_dtype.name} for table {table.name}"
        )


def _table(call: Call, handle: np.ndarray) -> Table:
    table = held(handle)
    if not isinstance(table, Table):
        call.fail("The input is no handle of a table")
    return table


# --- InitializeTableV2, LookupTableImportV2 ---


def _pairs(x: Inference) -> list[ShapeLike]:
    (keys,), (values,) = x.with_rank(1, 1), x.with_rank(2, 1)
    x.equal(keys, values, f"Dimensions must be equal, but are {keys} and {values}")
    return []


def _fill(call: Call, handle: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[()]:
    table = _table(call, handle)
    if keys.shape != values.shape or keys.ndim != 1:
        call.fail(f"Keys and values must be vectors of one length, got {brief(keys.shape)} and {brief(values.shape)}")
    kinds = [attr for name, attr in call.attrs.items() if name in ("Tkey", "Tval", "Tin", "Tout")]
    _check(call, table, *kinds)
    table.fill(keys.tolist(), values.tolist())
    return ()


# --- InitializeTableFromTextFileV2 ---

_LINE, _NUMBER = -2, -1


def _part(call: Call, line: bytes, number: int, index: int, dtype: DType) -> Any:
    """What a line holds at `index`: a column, the whole line (-2), or its number (-1)."""
    if index == _NUMBER:
        return number + call.attrs["offset"]
    found = line
    if index != _LINE:
        columns = line.split(call.attrs["delimiter"])
        if index >= len(columns):
            call.fail(
                f"Invalid number of columns in line {number} ({line.decode(errors='replace')}): expected at least "
                f"{index + 1}, got {len(columns)}"
            )
        found = columns[index]
    if dtype.kind == "s":
        return found
    value = parse_number(found, dtype)
    if value is None:
        call.fail(f"Field {found.decode(errors='replace')} in line {number} is not a valid {dtype.name}.")
    return value


def _fill_from_file(call: Call, handle: np.ndarray, filename: np.ndarray) -> tuple[()]:
    table, attrs = _table(call, handle), call.attrs
    if filename.ndim or not filename[()]:
        call.fail("The filename must be a scalar and not empty")
    if len(attrs["delimiter"]) != 1:
        call.fail("delimiter should be only 1 char")
    name = filename.item().decode()
    lines = files.read_file(name).splitlines()
    size = attrs["vocab_size"]
    if size != -1:
        if size > len(lines):
            call.fail(f"Invalid vocab_size in {name}: expected {size} but got {len(lines)}")
        lines = lines[:size]
    keys = [_part(call, line, k, attrs["key_index"], table.key_dtype) for k, line in enumerate(lines)]
    values = [_part(call, line, k, attrs["value_index"], table.value_dtype) for k, line in enumerate(lines)]
    table.fill(keys, values)
    return ()


# --- LookupTableFindV2, LookupTableSizeV2, LookupTableExportV2 ---


def _find(call: Call, handle: np.ndarray, keys: np.ndarray, default_value: np.ndarray) -> np.ndarray:
    table = _table(call, handle)
    _check(call, table, call.attrs["Tin"], call.attrs["Tout"])
    if default_value.ndim:
        call.fail(f"Expected shape [] for default value, got {brief(default_value.shape)}")
    return table.find(keys, default_value[()])


def _size(call: Call, handle: np.ndarray) -> np.ndarray:
    return np.array(len(_table(call, handle)), np.int64)


def _array(values: Sequence[Any], dtype: DType) -> np.ndarray:
    return texts(values, (len(values),)) if dtype.kind == "s" else np.array(values, dtype.np).reshape(len(values))


def _export(call: Call, handle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    table = _table(call, handle)
    _check(call, table, call.attrs["Tkeys"], call.attrs["Tvalues"])
    keys, values = table.items()
    return _array(keys, call.dtypes[0]), _array(values, call.dtypes[1])


for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    _input = f"table_handle: {_handle}"
    define(
        f"HashTable{_suffix}", f"-> {_input}",
        "container: string = '', shared_name: string = '', use_node_name_sharing: bool = False, key_dtype: type, "
        "value_dtype: type", infer=handle_shape, reference=_opened, stateful=True, resources=True,
    )  # fmt: skip
    define(f"InitializeTable{_suffix}", f"{_input}, keys: Tkey, values: Tval ->", "Tkey: type, Tval: type",
           infer=_pairs, reference=_fill, stateful=True)  # fmt: skip
    define(f"LookupTableImport{_suffix}", f"{_input}, keys: Tin, values: Tout ->", "Tin: type, Tout: type",
           infer=_pairs, reference=_fill, stateful=True)  # fmt: skip
    define(
        f"InitializeTableFromTextFile{_suffix}", f"{_input}, filename: string ->",
        "key_index: int, value_index: int, vocab_size: int = -1, delimiter: string = '\t', offset: int = 0",
        infer=no_outputs, reference=_fill_from_file, stateful=True,
    )  # fmt: skip
    define(
        f"LookupTableFind{_suffix}", f"{_input}, keys: Tin, default_value: Tout -> values: Tout",
        "Tin: type, Tout: type", infer=lambda x: [x.shape(1)], reference=_find, stateful=True,
    )  # fmt: skip
    define(f"LookupTableSize{_suffix}", f"{_input} -> size: int64", infer=scalar, reference=_size, stateful=True)
    define(
        f"LookupTableExport{_suffix}", f"{_input} -> keys: Tkeys, values: Tvalues", "Tkeys: type, Tvalues: type",
        infer=lambda x: [(None,), (None,)], reference=_export, stateful=True,
    )  # fmt: skip
