"""tf.graph_util."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.framework.graph_util import (
    convert_variables_to_constants,
    extract_sub_graph,
    must_run_on_cpu,
    remove_training_nodes,
    tensor_shape_from_node_def_name,
)
from stepjit.framework.importer import import_graph_def
