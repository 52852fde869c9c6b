"""tf.initializers."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.initializers import (
    constant_ as constant, glorot_normal, glorot_uniform, he_normal, he_uniform, identity, lecun_normal,
    lecun_uniform, ones, orthogonal, random_normal, random_uniform, truncated_normal, uniform_unit_scaling,
    variance_scaling, zeros,
)  # fmt: skip
from stepjit.variable_collections import (
    global_variables_initializer as global_variables, local_variables_initializer as local_variables,
    variables_initializer as variables,
)  # fmt: skip
