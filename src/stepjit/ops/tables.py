"""tf.lookup: tables that map keys to values, and what fills them."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.control import group
from stepjit.ops.strings import as_string, string_to_hash_bucket_fast
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype


class KeyValueTensorInitializer:
    """Fills a table from a vector of keys and one of values; ValueError when their lengths differ."""

    def __init__(
        self, keys: Any, values: Any, key_dtype: Any = None, value_dtype: Any = None, name: str | None = None
    ) -> None:
        self._keys = convert_to_tensor(keys, key_dtype, "keys")
        self._values = convert_to_tensor(values, value_dtype, "values")
        self._keys.shape.assert_is_compatible_with(self._values.shape)
        self._name = name or "key_value_init"
        self.key_dtype, self.value_dtype = self._keys.dtype.base_dtype, self._values.dtype.base_dtype

    def initialize(self, table: StaticHashTable) -> Operation:
        """The op that fills `table`."""
        with name_scope(self._name, values=[table.resource_handle, self._keys, self._values]):
            op: Operation = apply_op(
                "LookupTableImportV2", table_handle=table.resource_handle, keys=self._keys, values=self._values
            )
        get_default_graph().add_to_collection(GraphKeys.TABLE_INITIALIZERS, op)
        return op


class TextFileIndex:
    """What of a line is a key or a value: the whole line, its number, or (0, 1, ...) a column."""

    WHOLE_LINE = -2
    LINE_NUMBER = -1


class TextFileInitializer:
    """Fills a table from the lines of a text file; ValueError for parts of lines that don't go with the dtypes."""

    def __init__(
        self,
        filename: Any,
        key_dtype: Any,
        key_index: int,
        value_dtype: Any,
        value_index: int,
        vocab_size: int | None = None,
        delimiter: str = "\t",
        name: str | None = None,
        value_index_offset: int = 0,
    ) -> None:
        self.key_dtype, self.value_dtype = as_dtype(key_dtype), as_dtype(value_dtype)
        for what, index, dtype in (("key", key_index, self.key_dtype), ("value", value_index, self.value_dtype)):
            if index < -2:
                raise ValueError(f"Invalid {what} index {index}.")
            if index == TextFileIndex.LINE_NUMBER and dtype is not dtypes.int64:
                raise ValueError(f"{what} dtype must be int64 to hold line numbers, but is {dtype.name}")
            if index == TextFileIndex.WHOLE_LINE and dtype is not dtypes.string:
                raise ValueError(f"{what} dtype must be string to hold whole lines, but is {dtype.name}")
        if vocab_size is not None and vocab_size <= 0:
            raise ValueError(f"Invalid vocab_size {vocab_size}.")
        self._filename, self._name = filename, name or "text_file_init"
        self._options: dict[str, Any] = {
            "key_index": key_index, "value_index": value_index, "vocab_size": -1 if vocab_size is None else vocab_size,
            "delimiter": delimiter, "offset": value_index_offset,
        }  # fmt: skip

    def initialize(self, table: StaticHashTable) -> Operation:
        """The op that fills `table`; the file is an asset of the graph."""
        with name_scope(self._name, values=[table.resource_handle]):
            filename = convert_to_tensor(self._filename, dtypes.string, "asset_filepath")
            op: Operation = apply_op(
                "InitializeTableFromTextFileV2", table_handle=table.resource_handle, filename=filename, **self._options
            )
        graph = get_default_graph()
        graph.add_to_collection(GraphKeys.TABLE_INITIALIZERS, op)
        graph.add_to_collection(GraphKeys.ASSET_FILEPATHS, filename)
        return op


class StaticHashTable:
    """A table that its initializer fills once; keys it does not have give `default_value`."""

    def __init__(
        self, initializer: Any, default_value: Any, name: str | None = None, experimental_is_anonymous: bool = False
    ) -> None:
        graph = get_default_graph()
        self._initializer = initializer
        self._name = graph.unique_name(name or "hash_table", mark_as_used=False)
        self.key_dtype, self.value_dtype = initializer.key_dtype, initializer.value_dtype
        self.default_value = convert_to_tensor(default_value, self.value_dtype)
        self.resource_handle: Tensor = apply_op(
            "HashTableV2", key_dtype=self.key_dtype, value_dtype=self.value_dtype, use_node_name_sharing=True,
            name=name or "hash_table",
        )  # fmt: skip
        self._init_op: Operation = initializer.initialize(self)

    @property
    def name(self) -> str:
        return self._name

    @property
    def initializer(self) -> Operation:
        """The op that fills the table."""
        return self._init_op

    def size(self, name: str | None = None) -> Tensor:
        """The number of entries; 0 before the table is filled."""
        with name_scope(name, f"{self._name}_Size"):
            return apply_op("LookupTableSizeV2", table_handle=self.resource_handle)

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The values of keys (a tensor or a SparseTensor), elementwise; TypeError for keys of another dtype."""
        given = keys.values if isinstance(keys, SparseTensor) else keys
        if getattr(given, "dtype", self.key_dtype) != self.key_dtype:
            raise TypeError(f"Dtype of argument `keys` must be {self.key_dtype}, received: {given.dtype}")
        with name_scope(name, f"{self._name}_Lookup"):
            found = apply_op(
                "LookupTableFindV2", table_handle=self.resource_handle, keys=convert_to_tensor(given, self.key_dtype),
                default_value=self.default_value,
            )  # fmt: skip
        return keys.with_values(found) if isinstance(keys, SparseTensor) else found

    __getitem__ = lookup

    def export(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """All keys, and all values in the same order."""
        with name_scope(name, f"{self._name}_Export"):
            keys, values = apply_op(
                "LookupTableExportV2", table_handle=self.resource_handle, Tkeys=self.key_dtype, Tvalues=self.value_dtype
            )
        return keys, values


class StaticVocabularyTable:
    """A table from words to numbers, where words that it does not have go to `num_oov_buckets` more numbers by hash.

    ValueError unless there is at least one such number, TypeError unless the values are int64.
    """

    def __init__(
        self,
        initializer: Any,
        num_oov_buckets: int,
        lookup_key_dtype: Any = None,
        name: str | None = None,
        experimental_is_anonymous: bool = False,
    ) -> None:
        if num_oov_buckets <= 0:
            raise ValueError("`num_oov_buckets` must be > 0; use StaticHashTable.")
        if initializer.value_dtype is not dtypes.int64:
            raise TypeError(f"Invalid `value_dtype`, expected int64 but got {initializer.value_dtype.name}.")
        self._table = StaticHashTable(initializer, -1, name)
        self._buckets = num_oov_buckets
        self.key_dtype, self.value_dtype = as_dtype(lookup_key_dtype or initializer.key_dtype), dtypes.int64

    @property
    def name(self) -> str:
        return self._table.name

    @property
    def initializer(self) -> Operation:
        return self._table.initializer

    @property
    def resource_handle(self) -> Tensor:
        return self._table.resource_handle

    def size(self, name: str | None = None) -> Tensor:
        """The number of words and buckets."""
        return self._table.size(name) + self._buckets

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The numbers of words (a tensor or a SparseTensor), elementwise."""
        if isinstance(keys, SparseTensor):
            return keys.with_values(self.lookup(keys.values, name))
        words = convert_to_tensor(keys, self.key_dtype)
        with name_scope(name, f"{self.name}_Lookup"):
            if words.dtype.base_dtype is not self._table.key_dtype:
                words = apply_op("Cast", x=words, DstT=self._table.key_dtype)
            found = self._table.lookup(words)
            as_text = words if words.dtype.base_dtype is dtypes.string else as_string(words)
            bucket = string_to_hash_bucket_fast(as_text, self._buckets) + self._table.size()
            return apply_op("SelectV2", condition=apply_op("Less", x=found, y=0), t=bucket, e=found)

    __getitem__ = lookup


def tables_initializer(name: str = "init_all_tables") -> Operation:
    """An op that fills all tables of the graph."""
    return group(*get_default_graph().get_collection(GraphKeys.TABLE_INITIALIZERS), name=name)


initialize_all_tables = tables_initializer

for _suffix in ("", "V2"):
    for _kind in (
        "HashTable", "InitializeTable", "LookupTableImport", "InitializeTableFromTextFile", "LookupTableFind",
        "LookupTableSize", "LookupTableExport",
    ):  # fmt: skip
        NotDifferentiable(_kind + _suffix)
