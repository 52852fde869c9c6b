"""tf.contrib.rnn."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.rnn.base import RNNCell
from stepjit.rnn.cells import (
    BasicLSTMCell,
    BasicRNNCell,
    GRUCell,
    LayerNormBasicLSTMCell,
    LayerRNNCell,
    LSTMCell,
    LSTMStateTuple,
)
from stepjit.rnn.loops import static_bidirectional_rnn, static_rnn
from stepjit.rnn.wrappers import (
    DeviceWrapper,
    DropoutWrapper,
    EmbeddingWrapper,
    InputProjectionWrapper,
    MultiRNNCell,
    OutputProjectionWrapper,
    ResidualWrapper,
)
