"""Variables as VariableDef messages, and from them again, as the collections of a MetaGraphDef hold them."""

from __future__ import annotations

from typing import Any

from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.meta_graph import register_collection, without_scope
from stepjit.partitioned import Part
from stepjit.proto import MESSAGES
from stepjit.variable_kinds import VariableAggregation, VariableSynchronization
from stepjit.variables import ResourceVariable, Variable


def variable_def(variable: Variable, export_scope: str | None = None) -> Any:
    """A new VariableDef; None for a variable outside `export_scope`, whose prefix the names lose."""
    if export_scope and not variable.name.startswith(f"{export_scope.rstrip('/')}/"):
        return None
    proto = MESSAGES["VariableDef"]()

    def named(item: Any) -> str:
        return without_scope(item.name, export_scope)

    parts: Any = variable
    proto.is_resource = isinstance(variable, ResourceVariable)
    proto.variable_name = named(parts.handle if proto.is_resource else variable)
    proto.initializer_name = named(variable.initializer)
    proto.snapshot_name = named(parts._graph_element if proto.is_resource else parts._snapshot)
    proto.initial_value_name = named(variable._initial_value)
    proto.trainable = variable.trainable
    proto.synchronization = getattr(variable.synchronization, "value", variable.synchronization) or 0
    proto.aggregation = getattr(variable.aggregation, "value", variable.aggregation) or 0
    info = variable._get_save_slice_info()
    if info is not None:
        slice_info = proto.save_slice_info_def
        slice_info.full_name = without_scope(info.full_name, export_scope)
        slice_info.full_shape.extend(info.full_shape)
        slice_info.var_offset.extend(info.var_offset)
        slice_info.var_shape.extend(info.var_shape)
    return proto


def variable_from_def(proto: Any, import_scope: str | None = None) -> Variable:
    """The variable that a VariableDef describes; its ops are in the default graph, under `import_scope`.

    KeyError when they are not.
    """
    kind: Any = ResourceVariable if proto.is_resource else Variable
    variable: Variable = kind(variable_def=proto, import_scope=import_scope, use_resource=bool(proto.is_resource))
    variable._synchronization = VariableSynchronization(proto.synchronization)
    variable._aggregation = VariableAggregation(proto.aggregation)
    if proto.HasField("save_slice_info_def"):
        info = proto.save_slice_info_def
        number = variable.op.name.rpartition("_")[2]
        full_name = f"{import_scope}/{info.full_name}" if import_scope else info.full_name
        part = Part(
            full_name, list(info.full_shape), list(info.var_offset), list(info.var_shape),
            int(number) if number.isdecimal() else 0,
        )  # fmt: skip
        variable._set_save_slice_info(part)
    return variable


for _key in (
    GraphKeys.GLOBAL_VARIABLES, GraphKeys.TRAINABLE_VARIABLES, GraphKeys.LOCAL_VARIABLES, GraphKeys.MODEL_VARIABLES,
    GraphKeys.MOVING_AVERAGE_VARIABLES, GraphKeys.METRIC_VARIABLES, GraphKeys.GLOBAL_STEP,
):  # fmt: skip
    register_collection(_key, "VariableDef", variable_def, variable_from_def)
