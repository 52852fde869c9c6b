"""tf.contrib: the parts of it that programs use."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.compat.v1 import distributions as distributions
from stepjit.compat.v1.contrib import layers, lookup, rnn
