"""tf.nn."""

# ruff: noqa: F401, I001

from __future__ import annotations

import importlib
from typing import Any

from stepjit.ops.activations import (
    bias_add, crelu, elu, leaky_relu, log_softmax, relu, relu6, relu_layer, selu, softmax, softplus, softsign,
    swish, xw_plus_b,
)  # fmt: skip
from stepjit.ops.batch_norm import (
    batch_norm_with_global_normalization, fused_batch_norm, local_response_normalization, lrn,
)  # fmt: skip
from stepjit.ops.convolution import (
    atrous_conv2d, atrous_conv2d_transpose, conv1d, conv1d_transpose, conv2d, conv2d_backprop_filter,
    conv2d_backprop_input, conv2d_transpose, conv3d, conv3d_backprop_filter, conv3d_transpose, conv_transpose,
    convolution, depthwise_conv2d, depthwise_conv2d_backprop_filter, depthwise_conv2d_backprop_input,
    depthwise_conv2d_native, separable_conv2d,
)  # fmt: skip
from stepjit.ops.cross_entropy import (
    l2_loss, log_poisson_loss, sigmoid_cross_entropy_with_logits, softmax_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2, sparse_softmax_cross_entropy_with_logits,
    weighted_cross_entropy_with_logits,
)  # fmt: skip
from stepjit.ops.ctc import (
    ctc_beam_search_decoder, ctc_beam_search_decoder_v2, ctc_greedy_decoder, ctc_loss, ctc_loss_v2,
)  # fmt: skip
from stepjit.ops.embedding import embedding_lookup_sparse, safe_embedding_lookup_sparse
from stepjit.ops.elementwise import log_sigmoid, sigmoid, tanh
from stepjit.ops.normalization import (
    batch_normalization, dropout, embedding_lookup, l2_normalize, moments, normalize_moments, sufficient_statistics,
    weighted_moments, zero_fraction,
)  # fmt: skip
from stepjit.ops.pooling import (
    avg_pool, avg_pool1d, avg_pool3d, dilation2d, erosion2d, max_pool, max_pool1d, max_pool2d, max_pool3d,
    max_pool_with_argmax, pool,
)  # fmt: skip
from stepjit.ops.segments import in_top_k, top_k
from stepjit.ops.space_batches import with_space_to_batch

avg_pool2d = avg_pool
avg_pool_v2 = avg_pool
max_pool_v2 = max_pool
conv3d_backprop_filter_v2 = conv3d_backprop_filter
depthwise_conv2d_native_backprop_filter = depthwise_conv2d_backprop_filter
depthwise_conv2d_native_backprop_input = depthwise_conv2d_backprop_input

_RECURRENT = frozenset({
    "bidirectional_dynamic_rnn", "dynamic_rnn", "raw_rnn", "static_bidirectional_rnn", "static_rnn",
})  # fmt: skip

_SAMPLED = frozenset({
    "all_candidate_sampler", "compute_accidental_hits", "fixed_unigram_candidate_sampler",
    "learned_unigram_candidate_sampler", "log_uniform_candidate_sampler", "nce_loss", "sampled_softmax_loss",
    "uniform_candidate_sampler",
})  # fmt: skip


def __getattr__(name: str) -> Any:
    # What not every program uses.
    if name in _RECURRENT:
        return getattr(importlib.import_module("stepjit.rnn.loops"), name)
    if name in _SAMPLED:
        return getattr(importlib.import_module("stepjit.ops.candidate_sampling"), name)
    if name == "rnn_cell":
        return importlib.import_module("stepjit.compat.v1.rnn_cell")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
