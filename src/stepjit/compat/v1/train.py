"""tf.train."""

# ruff: noqa: F401, I001

from __future__ import annotations

from typing import Any

from stepjit.train.adam import AdamOptimizer
from stepjit.train import queue_runner
from stepjit.train.coordinator import Coordinator, LooperThread
from stepjit.train.input import (
    batch, batch_join, input_producer, limit_epochs, maybe_batch, maybe_batch_join, maybe_shuffle_batch,
    maybe_shuffle_batch_join, range_input_producer, shuffle_batch, shuffle_batch_join, slice_input_producer,
    string_input_producer,
)  # fmt: skip
from stepjit.ops.readers import match_filenames_once
from stepjit.train.queue_runner import QueueRunner, add_queue_runner, start_queue_runners
from stepjit.train.global_step import (
    assert_global_step, create_global_step, get_global_step, get_or_create_global_step, global_step,
)  # fmt: skip
from stepjit.train.gradient_descent import GradientDescentOptimizer
from stepjit.train.momentum import MomentumOptimizer
from stepjit.train.optimizer import Optimizer
from stepjit.train.adaptive import AdadeltaOptimizer, AdagradOptimizer, FtrlOptimizer, RMSPropOptimizer
from stepjit.train.proximal import (
    AdagradDAOptimizer, ProximalAdagradOptimizer, ProximalGradientDescentOptimizer,
)  # fmt: skip
from stepjit.train.cosine import cosine_decay, cosine_decay_restarts, linear_cosine_decay, noisy_linear_cosine_decay
from stepjit.train.decay import (
    exponential_decay, inverse_time_decay, natural_exp_decay, piecewise_constant, piecewise_constant_decay,
    polynomial_decay,
)  # fmt: skip
from stepjit.train.moving_averages import ExponentialMovingAverage

_PROTOS = frozenset({
    "BytesList", "ClusterDef", "Example", "Feature", "FeatureList", "FeatureLists", "Features", "FloatList",
    "Int64List", "JobDef", "SaverDef", "SequenceExample",
})  # fmt: skip


def __getattr__(name: str) -> Any:
    # What needs protobuf, which takes time to import.
    if name in _PROTOS:
        from stepjit.proto import MESSAGES

        return MESSAGES[name]
    if name in ("export_meta_graph", "import_meta_graph", "write_graph"):
        from stepjit import variable_defs as _variable_defs
        from stepjit.framework import meta_graph

        return getattr(meta_graph, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
