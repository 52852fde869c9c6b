"""tf.contrib.layers."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.layers.contrib import (
    apply_regularization, dropout, flatten, fully_connected, l1_l2_regularizer, l1_regularizer, l2_regularizer,
    sum_regularizer, variance_scaling_initializer, xavier_initializer, xavier_initializer_conv2d,
)  # fmt: skip
