"""tf.bitwise."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.ops.special import bitwise_and, bitwise_or, bitwise_xor, invert, left_shift, right_shift
