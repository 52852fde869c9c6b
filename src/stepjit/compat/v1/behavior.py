"""The switches between TensorFlow 1 and 2. Only TensorFlow 1's behaviour is here, so most have nothing to do."""

from __future__ import annotations


def disable_v2_behavior() -> None:
    """Nothing to do: there is no other behaviour."""


disable_eager_execution = disable_v2_behavior
disable_v2_tensorshape = disable_v2_behavior
disable_tensor_equality = disable_v2_behavior
disable_resource_variables = disable_v2_behavior
disable_control_flow_v2 = disable_v2_behavior
enable_control_flow_v2 = disable_v2_behavior


def enable_resource_variables() -> None:
    """Nothing to do: both kinds of variables hold their value in the session alike."""


def executing_eagerly() -> bool:
    """False: ops only build the graph."""
    return False
