"""What a ConfigProto says that means something here; every other field is accepted and has no effect."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from stepjit_runtime import blas
from stepjit_runtime.errors import NotFoundError


@dataclass(frozen=True)
class SessionConfig:
    """A session's configuration; read once, so later changes of the message don't reach the session."""

    cpus: int = 1
    """Devices that `tf.device` may name; all of them are this machine's processor."""
    soft_placement: bool = False
    """Whether ops for devices that don't exist go to the first one."""
    log_placement: bool = False
    pruned_placement: bool = False
    """Whether only the ops of a step need a device, rather than all of the graph."""
    time_limit: float | None = None
    """Seconds that a step may take unless its own options say otherwise."""
    shapes_in_graph_def: bool = False
    cost_model_every: int = 0
    """Every so many steps `cost_graph` is filled; 0: never."""
    cost_model_after: int = 0
    thread_pools: int = 1
    """How many `inter_op_thread_pool` of a step's options may choose from."""


def is_message(value: Any, name: str) -> bool:
    """Whether the value is a TensorFlow message of that name, be it this package's or TensorFlow's own class."""
    return getattr(getattr(type(value), "DESCRIPTOR", None), "full_name", None) == f"tensorflow.{name}"


def read_config(config: Any, pruned_placement: bool = False) -> SessionConfig:
    """The meaning of a ConfigProto or None.

    Sets the threads that BLAS uses in this process if the message has `intra_op_parallelism_threads`. Raises TypeError
    for other objects and NotFoundError where `device_count` leaves no CPU.
    """
    if isinstance(config, SessionConfig):
        return config
    if config is None:
        return SessionConfig(pruned_placement=pruned_placement)
    if isinstance(config, SessionConfig):
        return config  # of a session that was pickled
    if not is_message(config, "ConfigProto"):
        raise TypeError(f"Argument `config` must be a tf.ConfigProto, but got {type(config).__name__!r}")
    cpus = config.device_count.get("CPU", 1)
    if cpus < 1:
        raise NotFoundError(None, None, f"No CPU devices are available: device_count asks for {cpus}")
    if config.intra_op_parallelism_threads > 0:
        blas.set_threads(min(config.intra_op_parallelism_threads, os.cpu_count() or 1))
    graph = config.graph_options
    milliseconds = config.operation_timeout_in_ms
    return SessionConfig(
        cpus=cpus,
        soft_placement=config.allow_soft_placement,
        log_placement=config.log_device_placement,
        pruned_placement=pruned_placement or graph.place_pruned_graph,
        time_limit=milliseconds / 1e3 if milliseconds > 0 else None,
        shapes_in_graph_def=graph.infer_shapes,
        cost_model_every=max(0, graph.build_cost_model),
        cost_model_after=graph.build_cost_model_after,
        thread_pools=max(1, len(config.session_inter_op_thread_pool)),
    )


def as_target(target: Any) -> bytes | None:
    """The target as bytes; TypeError when it is no text."""
    if target is None or isinstance(target, bytes):
        return target
    if isinstance(target, str):
        return target.encode()
    hint = ""
    if is_message(target, "ConfigProto"):
        hint = ' Did you do "Session(config)" instead of "Session(config=config)"?'
    raise TypeError(f"Argument `target` must be a string, but got {type(target).__name__!r}.{hint}")


def check_target(target: bytes | None) -> None:
    """NotFoundError unless the target is this process: there is no other place where steps run."""
    if target:
        address = target.decode(errors="backslashreplace")
        raise NotFoundError(
            None,
            None,
            f'No session factory registered for the given session options: {{target: "{address}"}}. Steps run in this '
            f"process only, which the empty target stands for; '{address}' was not contacted.",
        )
