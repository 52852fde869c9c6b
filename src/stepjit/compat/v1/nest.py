"""tf.nest."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.framework.nest import assert_same_structure, flatten, is_nested, map_structure, pack_sequence_as
