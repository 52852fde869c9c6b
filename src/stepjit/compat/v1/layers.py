"""tf.layers."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.layers import dense, dropout, flatten
