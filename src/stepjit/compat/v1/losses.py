"""tf.losses."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.losses import (
    absolute_difference, add_loss, compute_weighted_loss, cosine_distance, get_losses, get_regularization_loss,
    get_regularization_losses, get_total_loss, hinge_loss, huber_loss, log_loss, mean_pairwise_squared_error,
    mean_squared_error, Reduction, sigmoid_cross_entropy, softmax_cross_entropy, sparse_softmax_cross_entropy,
)  # fmt: skip
