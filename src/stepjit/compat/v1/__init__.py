"""TensorFlow 1's namespace: `import stepjit.compat.v1 as tf`."""

from __future__ import annotations

from stepjit.compat.v1.behavior import (
    disable_control_flow_v2 as disable_control_flow_v2,
    disable_eager_execution as disable_eager_execution,
    disable_resource_variables as disable_resource_variables,
    disable_tensor_equality as disable_tensor_equality,
    disable_v2_behavior as disable_v2_behavior,
    disable_v2_tensorshape as disable_v2_tensorshape,
    enable_control_flow_v2 as enable_control_flow_v2,
    enable_resource_variables as enable_resource_variables,
    executing_eagerly as executing_eagerly,
)
from stepjit.framework.collections import (
    add_to_collection as add_to_collection,
    add_to_collections as add_to_collections,
    get_collection as get_collection,
    get_collection_ref as get_collection_ref,
)
from stepjit.framework.convert import (
    constant as constant,
    convert_to_tensor as convert_to_tensor,
    register_tensor_conversion_function as register_tensor_conversion_function,
)
from stepjit.framework.device import DeviceSpec as DeviceSpec
from stepjit.framework.graph import Graph as Graph
from stepjit.framework.graph_keys import GraphKeys as GraphKeys
from stepjit.framework.indexed_slices import IndexedSlices as IndexedSlices
from stepjit.framework.random_seed import get_seed as get_seed, set_random_seed as set_random_seed
from stepjit.framework.registry import (
    NoGradient as NoGradient,
    NotDifferentiable as NotDifferentiable,
    RegisterGradient as RegisterGradient,
)
from stepjit.framework.scopes import (
    colocate_with as colocate_with,
    container as container,
    control_dependencies as control_dependencies,
    device as device,
    name_scope as name_scope,
)
from stepjit.framework.shape import (
    Dimension as Dimension,
    TensorShape as TensorShape,
    dimension_at_index as dimension_at_index,
    dimension_value as dimension_value,
)
from stepjit.framework.stack import get_default_graph as get_default_graph, reset_default_graph as reset_default_graph
from stepjit.framework.tensor import Operation as Operation, Tensor as Tensor
from stepjit.ops.control import (
    Assert as Assert,
    check_numerics as check_numerics,
    group as group,
    identity as identity,
    identity_n as identity_n,
    no_op as no_op,
    placeholder as placeholder,
    placeholder_with_default as placeholder_with_default,
    stop_gradient as stop_gradient,
    tuple as tuple,
)
from stepjit_runtime import errors as errors
from stepjit_runtime.dtypes import (
    DType as DType,
    as_dtype as as_dtype,
    bfloat16 as bfloat16,
    bool_ as bool,
    complex64 as complex64,
    complex128 as complex128,
    double as double,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    half as half,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    qint8 as qint8,
    qint16 as qint16,
    qint32 as qint32,
    quint8 as quint8,
    quint16 as quint16,
    resource as resource,
    string as string,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
    variant as variant,
)
from stepjit_runtime.errors import OpError as OpError

newaxis = None
