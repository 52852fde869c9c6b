"""tf.io."""

# ruff: noqa: F401, I001

from __future__ import annotations

from typing import Any

from stepjit.ops.parsing import (
    decode_json_example, FixedLenFeature, FixedLenSequenceFeature, parse_example, parse_single_example, parse_tensor,
    serialize_tensor, SparseFeature, VarLenFeature,
)  # fmt: skip
from stepjit.ops.queues import PaddingFIFOQueue, PriorityQueue, QueueBase, RandomShuffleQueue
from stepjit.ops.readers import match_filenames_once, matching_files, read_file, write_file
from stepjit.ops.sparse_serialized import deserialize_many_sparse, serialize_many_sparse, serialize_sparse
from stepjit.ops.strings import decode_base64, decode_compressed, decode_csv, decode_raw, encode_base64
from stepjit.record_files import TFRecordCompressionType, TFRecordOptions, TFRecordWriter, tf_record_iterator


def __getattr__(name: str) -> Any:
    if name == "write_graph":
        from stepjit.framework.meta_graph import write_graph

        return write_graph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
