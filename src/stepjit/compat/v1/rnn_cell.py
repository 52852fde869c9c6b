"""tf.nn.rnn_cell."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.rnn.base import RNNCell
from stepjit.rnn.cells import BasicLSTMCell, BasicRNNCell, GRUCell, LSTMCell, LSTMStateTuple
from stepjit.rnn.wrappers import DeviceWrapper, DropoutWrapper, MultiRNNCell, ResidualWrapper
