# ruff: noqa: F401, F403, I001 - names for users, by file
"""TensorFlow 1's namespace: `import stepjit.compat.v1 as tf`."""

from __future__ import annotations

import importlib
from typing import Any

from stepjit.compat.v1 import bitwise, initializers, layers, linalg, logging, losses, math, nn, random, raw_ops, train
from stepjit.compat.v1 import debugging, image, io, lookup, python_io, sets, signal, sparse, spectral, strings
from stepjit.compat.v1.behavior import (
    disable_control_flow_v2, disable_eager_execution, disable_resource_variables, disable_tensor_equality,
    disable_v2_behavior, disable_v2_tensorshape, enable_control_flow_v2, enable_resource_variables, executing_eagerly,
)  # fmt: skip
from stepjit.compat.v1.symbols import *
from stepjit.framework.collections import (
    add_to_collection, add_to_collections, get_collection, get_collection_ref,
)  # fmt: skip
from stepjit.framework.convert import constant, convert_to_tensor, register_tensor_conversion_function
from stepjit.framework.device import DeviceSpec
from stepjit.framework.func_graph import init_scope
from stepjit.framework.graph import Graph
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NoGradient, NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import colocate_with, container, control_dependencies, device, name_scope
from stepjit.framework.random_seed import get_seed, set_random_seed
from stepjit.framework.shape import Dimension, TensorShape, dimension_at_index, dimension_value
from stepjit.framework.stack import get_default_graph, reset_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.control import (
    Assert, check_numerics, group, guarantee_const, identity, identity_n, no_op, placeholder,
    placeholder_with_default, stop_gradient, tuple,
)  # fmt: skip
from stepjit.session import InteractiveSession, Session, get_default_session
from stepjit_runtime import errors
from stepjit_runtime.dtypes import (
    DType, as_dtype, bfloat16, bool_ as bool, complex64, complex128, double, float16, float32, float64, half, int8,
    int16, int32, int64, qint8, qint16, qint32, quint8, quint16, resource, string, uint8, uint16, uint32, uint64,
    variant,
)  # fmt: skip
from stepjit_runtime.errors import OpError

newaxis = None

_PROTOS = frozenset({
    "AttrValue", "ConfigProto", "Event", "GPUOptions", "GraphDef", "GraphOptions", "HistogramProto", "LogMessage",
    "MetaGraphDef",
    "NameAttrList", "NodeDef", "OptimizerOptions", "RunMetadata", "RunOptions", "SessionLog", "Summary",
    "SummaryMetadata", "TensorInfo", "TensorProto",
})  # fmt: skip


def __getattr__(name: str) -> Any:
    # What needs protobuf, which takes time to import.
    if name in _PROTOS:
        from stepjit.proto import MESSAGES

        return MESSAGES[name]
    if name in ("make_ndarray", "make_tensor_proto"):
        from stepjit.framework import tensor_proto

        return getattr(tensor_proto, name)
    if name == "compat":
        return importlib.import_module("stepjit.compat")
    if name == "TensorSpec":
        from stepjit.framework.tensor_spec import TensorSpec

        return TensorSpec
    if name in ("contrib", "distributions", "graph_util", "metrics", "nest"):
        return importlib.import_module(f"stepjit.compat.v1.{name}")
    if name == "import_graph_def":
        from stepjit.framework.importer import import_graph_def

        return import_graph_def
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
